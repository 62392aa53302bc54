"""Networks from outside run natively as a whole: one kernel, ONNX Runtime's numbers, one program for all batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import rnngraph as rg
from rnngraph.errors import InputError
from rnngraph.ir import Array
from rnngraph.runtime.model import CompiledModel

TOLERANCE = 1e-5  # of the largest number of an output


class Net:
    """An ONNX graph being written, with random weights."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)

    def weight(self, *shape: int) -> str:
        fan = max(1, int(np.prod(shape[1:])))
        return self.const((self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32))

    def const(self, array: Array) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attrs: Any) -> str:
        names = [f"n{len(self.nodes)}.{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"{kind}{len(self.nodes)}", **attrs))
        return names[0]

    def save(self, path: Path, inputs: dict[str, tuple[int | str, ...]], outputs: dict[str, str],
             dtypes: dict[str, int]) -> Path:
        nodes = self.nodes + [helper.make_node("Identity", [v], [k]) for k, v in outputs.items()]
        graph = helper.make_graph(
            nodes, "net", [helper.make_tensor_value_info(n, dtypes.get(n, TensorProto.FLOAT), s)
                           for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, dtypes.get(n, TensorProto.FLOAT), None) for n in outputs], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        onnx.save(model, path)
        return path


def voice_detector(path: Path) -> Path:
    """The shape of a voice activity detector: a short-time Fourier transform as a strided convolution of mirrored
    samples, four convolutions with channels first, one step of an LSTM with its state in and out, a head."""
    net = Net()
    x = net.op("Pad", "x", net.ints(0, 0, 0, 64), mode="reflect")
    x = net.op("Unsqueeze", x, net.ints(1))
    y = net.op("Conv", x, net.weight(258, 1, 256), strides=[128])
    parts = [net.op("Slice", y, net.ints(lo), net.ints(hi), net.ints(1)) for lo, hi in ((0, 129), (129, 258))]
    squares = [net.op("Pow", p, net.const(np.array(2, np.float32))) for p in parts]
    y = net.op("Sqrt", net.op("Add", *squares))
    for n, f, stride in ((129, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1)):
        y = net.op("Relu", net.op("Conv", y, net.weight(f, n, 3), net.weight(f), strides=[stride], pads=[1, 1]))
    y = net.op("Transpose", y, perm=[2, 0, 1])
    h, c = (net.op("Unsqueeze", net.op("Gather", "state", net.const(np.array(k, np.int64)), axis=0), net.ints(0))
            for k in range(2))
    out = net.op("LSTM", y, net.weight(1, 512, 128), net.weight(1, 512, 128), net.weight(1, 1024), "", h, c,
                 outputs=3, hidden_size=128)
    last = out.split(".")[0]
    y = net.op("Relu", net.op("Transpose", net.op("Squeeze", out, net.ints(1)), perm=[1, 2, 0]))
    y = net.op("Sigmoid", net.op("Conv", y, net.weight(1, 128, 1), net.weight(1)))
    y = net.op("ReduceMean", y, axes=[2], keepdims=0)
    state = net.op("Concat", f"{last}.1", f"{last}.2", axis=0)
    return net.save(path, {"x": ("batch", 576), "state": (2, "batch", 128)}, {"probability": y, "next": state}, {})


def speller(path: Path) -> Path:
    """Words to letters: an embedding, a bidirectional LSTM over any time, attention of one query over its outputs, the
    best letter and its score."""
    net = Net()
    y = net.op("Transpose", net.op("Gather", net.weight(40, 24), "words"), perm=[1, 0, 2])
    out = net.op("LSTM", y, net.weight(2, 64, 24), net.weight(2, 64, 16), net.weight(2, 128), hidden_size=16,
                 direction="bidirectional")
    y = net.op("Transpose", net.op("Squeeze", net.op("Concat", *(
        net.op("Slice", out, net.ints(k), net.ints(k + 1), net.ints(1)) for k in range(2)), axis=3), net.ints(1)),
        perm=[1, 0, 2])
    query = net.op("Unsqueeze", net.op("Tanh", net.op("MatMul", "query", net.weight(9, 32))), net.ints(2))
    scores = net.op("Softmax", net.op("Squeeze", net.op("MatMul", y, query), net.ints(2)), axis=1)
    context = net.op("Squeeze", net.op("MatMul", net.op("Unsqueeze", scores, net.ints(1)), y), net.ints(1))
    logits = net.op("Add", net.op("MatMul", context, net.weight(32, 50)), net.weight(50))
    letter = net.op("ArgMax", logits, axis=1, keepdims=0)
    return net.save(path, {"words": ("batch", "time"), "query": ("batch", 9)},
                    {"letter": letter, "scores": net.op("LogSoftmax", logits, axis=1), "weights": scores},
                    {"words": TensorProto.INT64, "letter": TensorProto.INT64})


def pixels(path: Path) -> Path:
    """A small network of images, channels first: strided, grouped and depthwise convolutions, pools, a mean."""
    net = Net()
    y = net.op("Relu", net.op("Conv", "image", net.weight(16, 3, 3, 3), net.weight(16), strides=[2, 2], pads=[1] * 4))
    z = net.op("Conv", y, net.weight(16, 1, 3, 3), net.weight(16), group=16, pads=[1] * 4)
    y = net.op("Relu", net.op("Add", y, net.op("Conv", z, net.weight(16, 8, 1, 1), group=2)))
    y = net.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = net.op("Relu", net.op("Conv", y, net.weight(24, 16, 3, 3), net.weight(24), dilations=[2, 2], pads=[2] * 4))
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    return net.save(path, {"image": ("batch", 3, 20, 28)}, {"scores": net.op("Gemm", y, net.weight(24, 7))}, {})


def check(path: Path, calls: list[dict[str, Array]], *, threads: int = 1) -> CompiledModel:
    """One native kernel, ONNX Runtime's numbers."""
    model = rg.compile(path, threads=threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    names = [o.name for o in session.get_outputs()]
    for given in calls:
        results = model(**given)
        results = results if isinstance(results, tuple) else (results,)
        for name, got, want in zip(names, results, session.run(names, given), strict=True):
            assert got.dtype == want.dtype, name
            scale = float(np.abs(want).max(initial=1e-3))
            np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * scale, err_msg=name)
    assert {k.backend for k in model.report.kernels} == {"llvm"}
    assert len(model.report.kernels) == 1
    return model


def test_a_voice_detector(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    calls: list[dict[str, Array]] = [
        {"x": rng.standard_normal((b, 576)).astype(np.float32),
         "state": rng.standard_normal((2, b, 128)).astype(np.float32) * 0.1} for b in (1, 3)]
    check(voice_detector(tmp_path / "voice.onnx"), calls)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_speller(tmp_path: Path, threads: int) -> None:
    rng = np.random.default_rng(1)
    calls: list[dict[str, Array]] = [
        {"words": rng.integers(0, 40, (b, t)), "query": rng.standard_normal((b, 9)).astype(np.float32)}
        for b, t in ((1, 5), (3, 11))]
    model = check(speller(tmp_path / "speller.onnx"), calls, threads=threads)
    calls[0]["words"][0, 1] = 40
    with pytest.raises(InputError, match=r"values must be in -40\.\.39"):
        model(**calls[0])


def test_a_network_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    check(pixels(tmp_path / "pixels.onnx"),
          [{"image": rng.standard_normal((b, 3, 20, 28)).astype(np.float32)} for b in (1, 4)])
