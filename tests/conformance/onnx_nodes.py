"""The node tests that the onnx package ships: which of them run here, and why the others do not."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from rnngraph.frontends.onnx.reader import CODES, OLDEST

STRINGS, OPTIONALS = "strings", "inputs and outputs that are optional values"
NARROW = "dtypes of less than 8 bits, floats of 8 bits, complex numbers"
TRAINING = "training"
DATA = "the size of the result depends on the data"
DOMAINS = {"ai.onnx.ml": "classic machine learning (domain ai.onnx.ml)", "ai.onnx.preview.training": TRAINING,
           "ai.onnx.preview": "previews of future opsets (domain ai.onnx.preview)"}
SCOPE: dict[str, tuple[str, ...]] = {
    "layers of transformers as one op (where there is an expanded test, it runs)": (
        "Attention", "LinearAttention", "CausalConvWithState", "RotaryEmbedding", "SwiGLU", "TensorScatter"),
    TRAINING: ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"),
    "resampling and geometry of images": (
        "Resize", "Upsample", "GridSample", "AffineGrid", "RoiAlign", "MaxRoiPool", "NonMaxSuppression", "DeformConv",
        "Col2Im", "CenterCropPad", "ImageDecoder"),
    "transforms of signals": ("DFT", "STFT", "MelWeightMatrix", "HannWindow", "HammingWindow", "BlackmanWindow"),
    DATA: ("NonZero", "Compress", "Unique"),
    STRINGS: ("TfIdfVectorizer", "StringNormalizer", "StringConcat", "StringSplit", "RegexFullMatch"),
    "random numbers": ("Bernoulli", "RandomUniformLike", "RandomNormalLike", "RandomUniform", "RandomNormal"),
    "mathematics that no recurrent model uses": ("Det", "BitCast", "CumProd"),
}
SINGLE: dict[str, str] = {
    "test_causal_conv_with_state_silu_fp16_expanded": "what is expected was added up in f16, and is off by "
                                                      "more than the test's tolerance",
    "test_training_dropout": "its mask is numpy's random numbers",
    "test_training_dropout_default": "its mask is numpy's random numbers",
    "test_training_dropout_default_mask": "its mask is numpy's random numbers",
    "test_training_dropout_mask": "its mask is numpy's random numbers",
}


@dataclass(frozen=True, slots=True)
class NodeTest:
    """One of onnx's tests: a model with a node (or its expansion to a graph), inputs and outputs, tolerances."""

    name: str
    model: Any
    data: tuple[tuple[Sequence[Any], Sequence[Any]], ...]
    rtol: float
    atol: float

    @property
    def expanded(self) -> bool:
        """Whether the node is replaced by its definition in terms of other ops."""
        return "_expanded" in self.name


@lru_cache(maxsize=1)
def node_tests() -> dict[str, NodeTest]:
    """All of them, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some overflow on purpose while they are built
        found = load_model_tests(kind="node")
    return {t.name: NodeTest(t.name, t.model, tuple(t.data_sets or ()), t.rtol, t.atol) for t in found}


def reason(test: NodeTest) -> str | None:
    """Why the test is left out; None when it must pass."""
    if test.name in SINGLE:
        return SINGLE[test.name]
    nodes = list(_nodes(test.model.graph))
    for domain, why in DOMAINS.items():
        if any(n.domain == domain for n in nodes):
            return why
    for scope, ops in SCOPE.items():
        if any(n.op_type in ops for n in nodes):
            return scope
    for value in (*test.model.graph.input, *test.model.graph.output, *test.model.graph.value_info):
        if (kind := _of_type(value.type)) is not None:
            return kind
    codes = [a.i for n in nodes for a in n.attribute if a.name in ("to", "output_dtype", "dtype") and a.i]
    codes += [a.t.data_type for n in nodes for a in n.attribute if a.type == onnx.AttributeProto.TENSOR]
    if any(c not in CODES for c in codes):
        return STRINGS if onnx.TensorProto.STRING in codes else NARROW
    version = max((o.version for o in test.model.opset_import if o.domain == ""), default=1)
    return None if version >= OLDEST else f"opsets before {OLDEST}"


def _of_type(type: Any) -> str | None:
    kind = type.WhichOneof("value")
    if kind == "sequence_type":
        return _of_type(type.sequence_type.elem_type)
    if kind != "tensor_type":
        return OPTIONALS
    code = type.tensor_type.elem_type
    if code == onnx.TensorProto.STRING:
        return STRINGS
    return None if code in CODES or code == onnx.TensorProto.UNDEFINED else NARROW


def _nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of its bodies."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body)


def array(value: Any) -> Any:
    """A tensor of a test as the arrays here hold it: bf16 as float32."""
    found = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    return found.astype(np.float32) if found.dtype.name == "bfloat16" else found


def table(elsewhere: Collection[str]) -> str:
    """The table of docs/conformance.md, without the tests that are run ``elsewhere``."""
    left_out: dict[str, list[str]] = {}
    for test in node_tests().values():
        if test.name not in elsewhere and (why := reason(test)) is not None:
            left_out.setdefault(why, []).append(test.name.removeprefix("test_"))
    rows = [f"| {why} | {len(names)} | {', '.join(sorted(names))} |" for why, names in sorted(left_out.items())]
    return "\n".join(["| why | number | tests |", "| --- | --- | --- |", *rows])
