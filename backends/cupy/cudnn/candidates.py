"""cuDNN's candidates for rnn nodes: a table of variants, constraints as data, costs as estimates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from rnngraph.backends.cupy.cudnn.variants import VARIANTS, Takes, Variant
from rnngraph.backends.cupy.requirements import ALWAYS, TENSOR_CORES, WEIGHTS, asked
from rnngraph.backends.registry import Constraint, Device, Implementation, Machine
from rnngraph.ir import F16, F32, Dims, Op, Rnn, RnnAttrs, resolve

Holds = Callable[[RnnAttrs], bool | str]


def _attrs(holds: Holds) -> Callable[[Op, Device], bool | str]:
    def check(op: Op, device: Device) -> bool | str:
        return holds(Rnn(op).attrs)

    return check


# --- what every algorithm asks -------------------------------------------------------------------------------------


def _sizes(op: Op, device: Device) -> bool | str:
    features = Rnn(op).x.shape[2]
    return (features != 0 and Rnn(op).attrs.hidden > 0) or f"x has {features} features"


CUDNN = Constraint("cudnn", "the cuDNN 9 library must be installed", lambda op, d: d.has("cudnn"))
RESET = Constraint("reset-after", "cuDNN's GRU multiplies the reset gate onto R h + bR, not onto h",
                   _attrs(lambda a: a.mode != "gru" or a.reset_after or "reset_after is false"))
PAD = Constraint("pad", "cuDNN writes zeros past a row's length, it does not repeat the last output",
                 _attrs(lambda a: not a.lengths or a.pad == "zero" or f"pad is {a.pad!r}"))
NARROWER = Constraint("projection", "cuDNN projects h to fewer features than the LSTM's units",
                      _attrs(lambda a: a.proj < a.hidden or f"h is projected from {a.hidden} features to {a.proj}"))
SIZES = Constraint("sizes", "cuDNN takes at least one feature and one unit", _sizes)
SHARED = (*ALWAYS, CUDNN, RESET, PAD, NARROWER, SIZES, WEIGHTS)


# --- what one algorithm asks ---------------------------------------------------------------------------------------


def _own(label: str, takes: Takes) -> list[Constraint]:
    """The constraints of an algorithm; those that it has no limit for are left out."""
    names = [str(d) for d in takes.dtypes]

    def dtypes(op: Op, device: Device) -> bool | str:
        dtype = Rnn(op).x.type.dtype
        return dtype in takes.dtypes or f"x is {dtype}"

    made = [Constraint("dtype", f"cuDNN's {label} takes {', '.join(names[:-1])} and {names[-1]}", dtypes)]
    if not takes.projection:
        made.append(Constraint("no-projection", f"cuDNN's {label} does no projection",
                               _attrs(lambda a: a.proj == 0 or f"h is projected to {a.proj}")))
    if not takes.lengths:
        made.append(Constraint("same-lengths", f"cuDNN's {label} takes rows of one length",
                               _attrs(lambda a: not a.lengths or "each row has its own")))
    return made


def _f32(op: Op, device: Device) -> bool | str:
    dtype = Rnn(op).x.type.dtype
    return dtype is F32 or f"x is {dtype}"


def _precision(variant: Variant) -> list[Constraint]:
    if variant.precision == "f32":
        return []
    return [asked(variant.precision), TENSOR_CORES,
            Constraint("f32-node", "the precision is that of products of f32 nodes", _f32)]


# --- costs: estimates until a trial has timed one -------------------------------------------------------------------

SMALL_H = {"lstm": 192, "gru": 192, "rnn_tanh": 384, "rnn_relu": 384}  # up to here PyTorch takes small_h for inference
STEP = {"standard": 1.5, "persist_static": 1.0, "persist_dynamic": 1.2, "small_h": 0.7}  # of a grid-wide barrier
UNTRIED = 2.5  # a step of an algorithm where PyTorch does not take it
RATE = {"f32": 1.0, "tf32": 4.0, "bf16": 8.0, "f16": 8.0, "f64": 0.5}  # of products, to f32's


def _usual(label: str, op: Op, dims: Dims) -> bool:
    """Whether PyTorch takes the algorithm for such a node (aten/src/ATen/native/cudnn/RNN.cpp, get_algo)."""
    node = Rnn(op)
    a = node.attrs
    if label == "small_h":
        return a.hidden <= SMALL_H[a.mode]
    if label == "persist_static":
        batch, features = resolve(node.x.shape, dims)[1:]
        return (node.x.type.dtype is F16 and a.mode != "gru" and a.num_layers == 1 and len(a.reverses) == 1
                and a.hidden <= 1024 and a.hidden % 128 == 0 and features % 128 == 0 and batch % 8 == 0
                and batch <= 128)
    return label == "standard"


def cudnn_cost(variant: Variant, op: Op, dims: Dims, machine: Machine) -> float:
    """The work at the precision's rate, and the steps; layers and directions overlap as a wavefront."""
    node = Rnn(op)
    dtype = node.x.type.dtype
    steps = resolve(node.x.shape, dims)[0] + node.attrs.num_layers - 1
    rates = replace(machine.gpu, flops=machine.gpu.flops * RATE[variant.precision if dtype is F32 else str(dtype)])
    each = STEP[variant.label] if _usual(variant.label, op, dims) else UNTRIED
    launches = 5 if variant.precision == "bf16" else 2  # to convert and back
    return rates.seconds(op.opdef.cost(op, dims), launches=launches, steps=each * steps)


def cudnn_implementations() -> tuple[Implementation, ...]:
    """One for every algorithm and precision."""
    return tuple(Implementation(name, "cupy", "gpu", frozenset({"rnn"}),
                                (*SHARED, *_own(v.label, v.takes), *_precision(v)), partial(cudnn_cost, v), tried=True)
                 for name, v in VARIANTS.items())


__all__ = ["RATE", "cudnn_implementations"]
