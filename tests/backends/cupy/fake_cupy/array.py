"""CuPy's ndarray, and the functions of its namespace, on numpy memory that stands for a GPU's.

Nothing converts an array to numpy by itself, host arrays do not mix with arrays of the device, and an allocation or a
wait during a capture is an error. Contents change when their stream comes to it, see `stream`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from tests.backends.cupy.fake_cupy.stream import Stream, current

NAMES = frozenset(Path(__file__).with_name("names.txt").read_text().split())  # the functions of CuPy 14.2
HOST_ONLY = "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array."
_compiled: set[object] = set()  # elementwise kernels that have been launched: the first launch loads a module


class MemoryPointer:
    """The memory of an array."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self.device = SimpleNamespace(id=0)

    @property
    def ptr(self) -> int:
        return int(self.array.ctypes.data)

    def memset_async(self, value: int, size: int, stream: Stream | None = None) -> None:
        def work() -> None:
            self.array.view(np.uint8).reshape(-1)[:size] = value
        (stream or current()).put(work)

    def copy_from_device_async(self, src: MemoryPointer, size: int, stream: Stream | None = None) -> None:
        assert size == self.array.nbytes == src.array.nbytes
        assert all(a.flags.c_contiguous for a in (self.array, src.array))

        def work() -> None:
            self.array.reshape(-1).view(np.uint8)[:] = src.array.reshape(-1).view(np.uint8)
        (stream or current()).put(work)


def allocated(shape: Any, dtype: Any) -> ndarray:
    """Memory with what was left in it."""
    current().no_capture("an allocation")
    array = np.empty(shape, dtype)
    array.reshape(-1).view(np.uint8)[...] = 0xFF
    return ndarray.of(array)


def plain(x: Any) -> Any:
    """Arguments with device arrays as numpy; TypeError for a host array."""
    if isinstance(x, ndarray):
        return x.array
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, list | tuple):
        return type(x)(map(plain, x))
    return {k: plain(v) for k, v in x.items()} if isinstance(x, dict) else x


def applied(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """A function of numpy on arrays of the device, on the current stream."""
    stream, out = current(), kwargs.pop("out", None)
    out = out[0] if isinstance(out, tuple) else out
    hosts, named = plain(tuple(args)), plain(kwargs)

    def compute() -> Any:
        with np.errstate(all="ignore"):
            return function(*hosts, **named)

    found = compute()  # of what is there now: for shapes and dtypes
    if out is not None:
        loaded(function, out)

        def fill() -> None:
            plain(out)[...] = compute()
        stream.put(fill)
        return out
    if isinstance(found, tuple | list):
        return type(found)(_result(stream, r, hosts, partial(_part, compute, k)) for k, r in enumerate(found))
    return _result(stream, found, hosts, compute)


def _result(stream: Stream, found: Any, hosts: Any, compute: Callable[[], Any]) -> Any:
    if not isinstance(found, np.ndarray | np.generic):
        return found
    if isinstance(found, np.ndarray) and any(np.may_share_memory(found, h) for h in _arrays(hosts)):
        return ndarray.of(found)
    made = allocated(found.shape, found.dtype)

    def work() -> None:
        made.array[...] = compute()
    stream.put(work)
    return made


def _part(compute: Callable[[], Any], k: int) -> Any:
    return compute()[k]


def _arrays(x: Any) -> Iterator[np.ndarray[Any, Any]]:
    if isinstance(x, np.ndarray):
        yield x
    elif isinstance(x, list | tuple):
        for part in x:
            yield from _arrays(part)


def loaded(*key: Any) -> None:
    """A kernel of CuPy's is launched: an error when it is the first time and a stream is captured."""
    key = tuple(k.dtype if isinstance(k, ndarray) else k for k in key)
    if key not in _compiled:
        current().no_capture("the loading of a module")
        _compiled.add(key)


class ndarray(NDArrayOperatorsMixin):
    """See the module."""

    array: np.ndarray[Any, Any]

    @classmethod
    def of(cls, array: np.ndarray[Any, Any]) -> ndarray:
        made = cls.__new__(cls)
        made.array = array
        return made

    # --- what it is -------------------------------------------------------------------------------------------------

    shape = property(lambda self: self.array.shape)
    strides = property(lambda self: self.array.strides)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    nbytes = property(lambda self: self.array.nbytes)
    itemsize = property(lambda self: self.array.itemsize)
    data = property(lambda self: MemoryPointer(self.array))
    device = property(lambda self: SimpleNamespace(id=0))
    T = property(lambda self: ndarray.of(self.array.T))
    flags = property(lambda self: SimpleNamespace(
        c_contiguous=self.array.flags.c_contiguous, f_contiguous=self.array.flags.f_contiguous,
        owndata=self.array.flags.owndata))

    def __len__(self) -> int:
        return len(self.array)

    # --- protocols --------------------------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError(HOST_ONLY)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if ufunc.__name__ not in NAMES or method not in ("__call__", "reduce", "accumulate", "outer", "at"):
            return NotImplemented
        return applied(getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func.__name__ not in NAMES:
            return NotImplemented
        return function(func.__name__)(*args, **kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    # --- to the host and back ---------------------------------------------------------------------------------------

    def get(self, stream: Stream | None = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        stream = stream or current()
        stream.no_capture("a copy to the host")
        host = np.empty(self.shape, self.dtype) if out is None else out

        def work() -> None:
            host[...] = self.array
        stream.put(work)
        if blocking:
            stream.drain()
        return host

    def set(self, arr: Any, stream: Stream | None = None) -> None:
        stream = stream or current()
        stream.no_capture("a copy from the host")
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError("Shape mismatch")
        if not self.array.flags.c_contiguous and not self.array.flags.f_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        staged = arr.copy()

        def work() -> None:
            self.array[...] = staged
        stream.put(work)

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __index__(self) -> int:
        return operator.index(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __format__(self, spec: str) -> str:
        return format(self.get(), spec)

    # --- parts ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[ndarray]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        masks = [p for p in (index if isinstance(index, tuple) else (index,))
                 if isinstance(p, ndarray) and p.dtype == np.bool_]
        if masks:  # the result's size is known on the device alone
            current().drain()
        return applied(lambda a, i: a[i], (self, _index(index)), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {type(value)}")
        loaded("copy", self, value if isinstance(value, ndarray) else type(value))
        at, source = plain(_index(index)), plain(value)
        np.broadcast_to(source, self.array[at].shape)  # shapes are looked at now

        def work() -> None:
            with np.errstate(all="ignore"):
                self.array[at] = source
        current().put(work)

    def __getattr__(self, name: str) -> Any:
        if name in METHODS:
            return lambda *args, **kwargs: applied(lambda a, *more, **named: getattr(a, name)(*more, **named),
                                                   (self, *args), kwargs)
        raise AttributeError(name)


METHODS = ("all", "any", "argmax", "argmin", "argsort", "astype", "clip", "copy", "cumsum", "flatten", "max", "mean",
           "min", "prod", "ravel", "repeat", "reshape", "round", "squeeze", "sum", "swapaxes", "take", "transpose",
           "view")  # a test looks for them in CuPy


def _index(index: Any) -> Any:
    """Host arrays and lists may be indices: CuPy copies them."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    if isinstance(index, np.ndarray | list):
        return asarray(np.asarray(index))
    return index


# --- the namespace ----------------------------------------------------------------------------------------------------


def asarray(a: Any, dtype: Any = None, order: Any = None) -> ndarray:
    if isinstance(a, ndarray):
        return a if dtype in (None, a.dtype) else a.astype(dtype)
    return array(a, dtype)


def array(obj: Any, dtype: Any = None, copy: bool = True, order: str = "K", ndmin: int = 0) -> ndarray:
    if isinstance(obj, ndarray):
        copied: ndarray = applied(lambda a: np.array(a, dtype), (obj,), {})
        return copied
    host = np.array(obj, dtype, order="C")
    made = allocated(host.shape, host.dtype)
    made.set(host)
    return made


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return allocated(shape, dtype)


def filled(shape: Any, value: Any, dtype: Any) -> ndarray:
    made = allocated(shape, dtype)
    current().put(lambda: made.array.fill(value))
    return made


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return filled(shape, 0, dtype)


def asnumpy(a: Any, stream: Stream | None = None) -> Any:
    return a.get(stream) if isinstance(a, ndarray) else np.asarray(a)


def from_dlpack(array: Any) -> ndarray:
    if array.__dlpack_device__()[0] != 2:
        raise TypeError("CPU arrays cannot be directly imported to CuPy.")
    found: ndarray = array.__dlpack__(stream=current().ptr or 1)
    return found


def may_share_memory(a: ndarray, b: ndarray) -> bool:
    return bool(np.may_share_memory(a.array, b.array))


def arange(*args: Any, **kwargs: Any) -> ndarray:
    return array(np.arange(*args, **kwargs))


OWN = {f.__name__: f for f in (asarray, array, empty, zeros, asnumpy, from_dlpack, may_share_memory, arange)}


def function(name: str) -> Callable[..., Any]:
    """A function of the namespace."""
    if name in OWN:
        return OWN[name]
    if name not in NAMES or not hasattr(np, name):
        raise AttributeError(f"module 'cupy' has no attribute {name!r}")
    return lambda *args, **kwargs: applied(getattr(np, name), args, kwargs)
