"""Tensor: what layers and cells compute with. A thin face of an IR value, with operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any, ClassVar, NoReturn, ParamSpec, TypeAlias, TypeVar

import numpy as np

from rnngraph.errors import TraceError
from rnngraph.ir import BOOL, Array, Dim, DType, OpDef, Shape, TensorType, Value, dims
from rnngraph.ir import ops as ir_ops
from rnngraph.nn.context import Trace, active

P = ParamSpec("P")
R = TypeVar("R")


class Tensor:
    """A value of a model: shape and dtype are known, elements are not.

    Operators: + - * / @ ** (numpy's broadcasting), unary -, comparisons (== and != too, by element),
    & | ~ on bools, and slices. Numbers and float32 arrays may stand on either side. Functions: `rnngraph.nn.ops`.
    """

    deferred: ClassVar[bool] = False  # stands for a value of a model under composition, not of a trace

    @property
    def type(self) -> TensorType:
        raise NotImplementedError

    def value(self) -> Value:
        """The IR value in the active trace."""
        raise NotImplementedError

    def defer(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Record a call that this tensor takes part in; only symbols of a model under composition (`deferred`) do."""
        raise TraceError(f"{self!r} is a value of a trace, in which a call runs at once")

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return self.type.rank

    def __add__(self, other: Operand) -> Tensor:
        return elementwise(ir_ops.ADD, self, other)

    def __radd__(self, other: Operand) -> Tensor:
        return elementwise(ir_ops.ADD, other, self)

    def __sub__(self, other: Operand) -> Tensor:
        return elementwise(ir_ops.SUB, self, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return elementwise(ir_ops.SUB, other, self)

    def __mul__(self, other: Operand) -> Tensor:
        return elementwise(ir_ops.MUL, self, other)

    def __rmul__(self, other: Operand) -> Tensor:
        return elementwise(ir_ops.MUL, other, self)

    def __truediv__(self, other: Operand) -> Tensor:
        return elementwise(ir_ops.DIV, self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return elementwise(ir_ops.DIV, other, self)

    def __pow__(self, other: Operand) -> Tensor:
        if isinstance(other, int) and other == 2:
            return self * self
        return elementwise(ir_ops.POW, self, other)

    def __rpow__(self, other: Operand) -> Tensor:
        return elementwise(ir_ops.POW, other, self)

    def __matmul__(self, other: Operand) -> Tensor:
        return matmul(self, other)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return matmul(other, self)

    def __neg__(self) -> Tensor:
        return elementwise(ir_ops.NEG, self)

    def __lt__(self, other: Any) -> Tensor:
        return elementwise(ir_ops.LT, self, other)

    def __le__(self, other: Any) -> Tensor:
        return elementwise(ir_ops.LE, self, other)

    def __gt__(self, other: Any) -> Tensor:
        return elementwise(ir_ops.GT, self, other)

    def __ge__(self, other: Any) -> Tensor:
        return elementwise(ir_ops.GE, self, other)

    def __eq__(self, other: Operand) -> Tensor:  # type: ignore[override]
        return elementwise(ir_ops.EQ, self, other)

    def __ne__(self, other: Operand) -> Tensor:  # type: ignore[override]
        return elementwise(ir_ops.NE, self, other)

    __hash__ = object.__hash__  # by identity: == makes a tensor

    def __and__(self, other: Operand) -> Tensor:
        return elementwise(ir_ops.AND, self, other)

    def __or__(self, other: Operand) -> Tensor:
        return elementwise(ir_ops.OR, self, other)

    def __invert__(self) -> Tensor:
        return elementwise(ir_ops.NOT, self)

    def __getitem__(self, index: object) -> Tensor:
        return take_slice(self, index)

    def __iter__(self) -> Iterator[Tensor]:
        self._refuse("iterate over", "use rnngraph.nn.ops.split")

    def __bool__(self) -> bool:
        self._refuse("take the truth value of", "choose by rnngraph.nn.ops.where")

    def __float__(self) -> float:
        self._refuse("take the number of", "elements are known only when the model runs")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """numpy hands us `array + tensor`; it computes as `tensor + array` does. No other ufunc works."""
        reflected = _REFLECTED.get(ufunc.__name__)
        if reflected and method == "__call__" and not kwargs and not isinstance(inputs[0], Tensor):
            return getattr(self, reflected)(inputs[0])
        self._refuse(f"call np.{ufunc.__name__} on", "use the functions of rnngraph.nn.ops")

    def __array__(self, *_: object, **__: object) -> Array:
        self._refuse("call a numpy function on", "use the functions of rnngraph.nn.ops")

    def _refuse(self, verb: str, advice: str) -> NoReturn:
        raise TraceError(f"cannot {verb} the traced {self!r}; {advice}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.type}>"


# Of numpy's name of an operator whose left side is an array: the method of the right side.
_REFLECTED = {
    "add": "__radd__", "subtract": "__rsub__", "multiply": "__rmul__", "divide": "__rtruediv__", "power": "__rpow__",
    "matmul": "__rmatmul__", "less": "__gt__", "less_equal": "__ge__", "greater": "__lt__", "greater_equal": "__le__",
    "equal": "__eq__", "not_equal": "__ne__",
}

Operand: TypeAlias = Tensor | float | Array


class Traced(Tensor):
    """A value of the running trace. ``name`` is the output name of a layer's final state, else ""."""

    def __init__(self, trace: Trace, value: Value, name: str = "") -> None:
        self.trace = trace
        self.name = name
        self._value = value

    @property
    def type(self) -> TensorType:
        return self._value.type

    def value(self) -> Value:
        trace = active()
        where = f"layer {trace.path!r}: " if trace.path else ""
        if self.trace is not trace:
            raise TraceError(f"{where}a tensor of a finished trace is used: expected tensors of this trace, "
                             f"got {self!r}; do not keep tensors in attributes, return them as states")
        if not trace.is_open(self._value.block):
            raise TraceError(f"{where}a tensor made inside a finished loop is used outside of it: got "
                             f"{self!r}; return it from step as the output or as a state")
        return self._value


def wrap(value: Value, name: str = "") -> Traced:
    return Traced(active(), value, name)


def tensors_in(structure: object) -> list[Tensor]:
    """The tensors in nested lists, tuples and dicts, in order."""
    if isinstance(structure, Tensor):
        return [structure]
    if isinstance(structure, dict):
        structure = list(structure.values())
    if isinstance(structure, list | tuple):
        return [t for item in structure for t in tensors_in(item)]
    return []


def composable(function: Callable[P, R]) -> Callable[P, R]:
    """Let ``function`` take the symbols of a model under composition: each trace runs the call."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for tensor in tensors_in([*args, *kwargs.values()]):
            if tensor.deferred:
                result: R = tensor.defer(function, args, kwargs)
                return result
        return function(*args, **kwargs)

    return call


def operand(x: object) -> Value | float:
    """An IR value or a Python number; TraceError for what is neither."""
    if isinstance(x, Tensor):
        return x.value()
    if isinstance(x, bool | int | float):
        return x
    if isinstance(x, np.ndarray | np.generic):
        if x.dtype == np.float64:
            raise TraceError(f"expected a float32 array, got float64{list(x.shape)}; use "
                             "array.astype(np.float32)")
        return active().builder.const(np.asarray(x))
    raise TraceError(f"expected a tensor, number or array, got {type(x).__name__} {x!r}")


def value_of(x: object) -> Value:
    """The IR value of ``x``; numbers become f32 constants."""
    v = operand(x)
    return v if isinstance(v, Value) else active().builder.const(v)


@composable
def elementwise(opdef: OpDef, *xs: Operand) -> Tensor:
    """An elementwise op on operands that broadcast by numpy's rule."""
    values = [operand(x) for x in xs]
    tensors = [v for v in values if isinstance(v, Value)]
    if not tensors:
        raise TraceError(f"{opdef.name}: expected at least one tensor, got numbers {values}")
    for v in values:
        if not isinstance(v, Value) and tensors[0].type.dtype.kind == "int" and v != int(v):
            raise TraceError(f"{opdef.name}: the number {v} does not fit {tensors[0].type}; cast the tensor "
                             "first")
    return wrap(active().builder.elementwise(opdef, *values))


@composable
def matmul(a: Operand, b: Operand) -> Tensor:
    """a[..., M, K] @ b[K, N], or batches of matrices on both sides."""
    return wrap(active().builder.matmul(value_of(a), value_of(b)))


@composable
def take_slice(x: Tensor, index: object) -> Tensor:
    """``x[index]`` for slices, integers and one ``...``.

    On an axis of symbolic size a bound is a place that the axis must have, where numpy would cut it off at the end:
    x[:, :5] has 5 steps, x[:, 2:] has time-2, and a call with fewer steps than that is an InputError.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in [i for i in items if not isinstance(i, Tensor)]:
        at = items.index(Ellipsis)
        items[at : at + 1] = [slice(None)] * (x.rank - len(items) + 1)
    if len(items) > x.rank:
        raise TraceError(f"slice: {len(items)} indices for {x.type}")
    b = active().builder
    out = x.value()
    dropped = []
    for axis, item in enumerate(items):
        dim = out.shape[axis]
        if isinstance(item, int) and not isinstance(item, bool):
            out = b.slice(out, axis, _position(item, dim), 1)
            dropped.append(axis)
        elif isinstance(item, slice):
            if item != slice(None):
                out = b.slice(out, axis, *_range(item, dim))
        else:
            raise TraceError(f"slice: an index is a slice, an int or ..., got {item!r}")
    return wrap(b.reshape(out, tuple(d for i, d in enumerate(out.shape) if i not in dropped)))


def _position(index: int, dim: Dim) -> int:
    if isinstance(dim, int) and not -dim <= index < dim:
        raise TraceError(f"slice: index {index} does not fit an axis of size {dim}")
    return index % dim if isinstance(dim, int) else index


def _range(item: slice, dim: Dim) -> tuple[Dim, Dim, int]:
    """The start, the size and the step of a slice."""
    step = 1 if item.step is None else item.step
    if not isinstance(step, int) or step < 1:
        raise TraceError(f"slice: the step must be an int >= 1, got {step!r}; use rnngraph.nn.ops.reverse")
    if isinstance(dim, int) and not isinstance(item.start, str) and not isinstance(item.stop, str):
        start, stop, _ = item.indices(dim)
        return start, len(range(start, stop, step)), step
    low, high = _bound(item.start, 0), _bound(item.stop, dim)
    first = dims.add(dim, low) if isinstance(low, int) and low < 0 else low
    end = dims.add(dim, high) if isinstance(high, int) and high < 0 else high
    size = dims.ceildiv(dims.sub(end, first), step)
    return low, max(size, 0) if isinstance(size, int) else size, step


def _bound(given: Dim | None, default: Dim) -> Dim:
    if isinstance(given, bool) or not isinstance(given, int | str | None):
        raise TraceError(f"slice: a bound is an int or a dim such as 'time-1', got {given!r}")
    return default if given is None else dims.parse(given)


def check_bool(what: str, x: Tensor) -> None:
    if x.dtype is not BOOL:
        raise TraceError(f"{what}: expected a bool tensor, got {x.type}")


def map_tensors(f: Callable[[Tensor], Any], structure: Any) -> Any:
    """``structure`` (nested lists, tuples, dicts) with ``f`` applied to each tensor."""
    if isinstance(structure, Tensor):
        return f(structure)
    if isinstance(structure, dict):
        return {k: map_tensors(f, v) for k, v in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)(map_tensors(f, v) for v in structure)
    return structure


def like(structure: Any, tensors: Iterable[Tensor]) -> Any:
    """``structure`` with its tensors replaced by ``tensors``, in order."""
    rest = iter(tensors)
    return map_tensors(lambda _: next(rest), structure)


def composed(run: Callable[[Any], tuple[Any, ...]], given: Any) -> Any:
    """``run(given)``, at once, or recorded when ``given`` holds tensors of a model under composition."""
    shape: list[Any] = []

    def flat(given: Any) -> tuple[Tensor, ...]:
        result = run(given)
        shape[:] = [result]
        return tuple(tensors_in(list(result)))

    deferred = next((t for t in tensors_in(given) if t.deferred), None)
    if deferred is None:
        return run(given)
    found: Iterator[Tensor] = iter(deferred.defer(flat, (given,), {}))
    return tuple(map_tensors(lambda _: next(found), part) for part in shape[0])
