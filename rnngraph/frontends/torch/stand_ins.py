"""Operators that stand for PyTorch's recurrent calls while a module is exported, so that their time stays symbolic.

torch.export runs ``aten.lstm`` on fake tensors through a Python loop over the steps, which fixes their number, and
cannot export packed sequences at all. Under `StandIns` these calls become operators of the library ``rnngraph``, which
say only what shape their results have; the walk over the exported graph gives them their meaning.

A packed sequence is, while exporting, data of an unknown number of rows; the number of its steps is that of the padded
input, and its first batch size is the batch. The walk keeps it padded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.rnn import RNNBase
from torch.overrides import TorchFunctionMode

from rnngraph.frontends.torch.bags import embedding_bag

NAMESPACE = "rnngraph"
_PAD = torch.nn.utils.rnn.pad_packed_sequence.__code__
MODES = ("lstm", "gru", "rnn_tanh", "rnn_relu")

_TORCH: Any = torch  # much of it has no types
_LIBRARY = _TORCH.library.Library(NAMESPACE, "DEF")
_OPTIONS = "Tensor[] params, bool has_biases, int num_layers, bool bidirectional"
_LIBRARY.define(f"recurrent(str mode, Tensor input, Tensor hx, {_OPTIONS}, bool batch_first) -> (Tensor, Tensor)")
_LIBRARY.define(f"lstm(Tensor input, Tensor[] hx, {_OPTIONS}, bool batch_first) -> (Tensor, Tensor, Tensor)")
_LIBRARY.define(f"recurrent_packed(str mode, Tensor data, Tensor batch_sizes, Tensor hx, {_OPTIONS}) -> "
                "(Tensor, Tensor)")
_LIBRARY.define(f"lstm_packed(Tensor data, Tensor batch_sizes, Tensor[] hx, {_OPTIONS}) -> (Tensor, Tensor, Tensor)")
_LIBRARY.define("pack(Tensor input, Tensor lengths, bool batch_first) -> (Tensor, Tensor)")
_LIBRARY.define("pack_input(Tensor input) -> (Tensor, Tensor)")
_LIBRARY.define("unpack(Tensor data, Tensor batch_sizes, bool batch_first, float padding_value, SymInt total_length, "
                "SymInt batch, bool whole) -> (Tensor, Tensor)")


def _check(condition: Any, message: str) -> None:
    _TORCH._check(condition, lambda: message)


def _sequence(name: str, shape: Sequence[Any], hx: Sequence[torch.Tensor], params: Sequence[torch.Tensor],
              num_layers: int, bidirectional: bool, batch: Any) -> Any:
    """Checks the operands; the features of the output."""
    directions = 2 if bidirectional else 1
    _check(shape[-1] == params[0].shape[1], f"{name}: expected {params[0].shape[1]} features, got {shape[-1]}")
    hidden, features = params[0].shape[0] // (4 if len(hx) == 2 else 3 if name == "gru" else 1), params[1].shape[1]
    for state, size in zip(hx, (features, hidden), strict=False):
        _check(state.dim() == 3, f"{name}: an initial state is [layers * directions, batch, size]")
        _check(state.shape[2] == size, f"{name}: expected an initial state of size {size}")
        _check(state.shape[0] == num_layers * directions, f"{name}: expected states of {num_layers * directions} "
                                                          f"layers and directions, got {state.shape[0]}")
        if batch is not None:
            _check(state.shape[1] == batch, f"{name}: the batch of the input and of its initial states differ")
    return features * directions


def _over_time(name: str, input: torch.Tensor, hx: Sequence[torch.Tensor], params: Sequence[torch.Tensor],
               num_layers: int, bidirectional: bool, batch_first: bool) -> torch.Tensor:
    _check(input.dim() == 3, f"{name}: expected an input of rank 3")
    batch = input.shape[0 if batch_first else 1]
    features = _sequence(name, input.shape, hx, params, num_layers, bidirectional, batch)
    return input.new_empty((input.shape[0], input.shape[1], features))


def _over_rows(name: str, data: torch.Tensor, hx: Sequence[torch.Tensor], params: Sequence[torch.Tensor],
               num_layers: int, bidirectional: bool) -> torch.Tensor:
    features = _sequence(name, data.shape, hx, params, num_layers, bidirectional, None)
    return data.new_empty((data.shape[0], features))


def _recurrent(mode: str, input: torch.Tensor, hx: torch.Tensor, params: list[torch.Tensor], has_biases: bool,
               num_layers: int, bidirectional: bool, batch_first: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return _over_time(mode, input, [hx], params, num_layers, bidirectional, batch_first), torch.empty_like(hx)


def _lstm(input: torch.Tensor, hx: list[torch.Tensor], params: list[torch.Tensor], has_biases: bool, num_layers: int,
          bidirectional: bool, batch_first: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    y = _over_time("lstm", input, hx, params, num_layers, bidirectional, batch_first)
    return y, torch.empty_like(hx[0]), torch.empty_like(hx[1])


def _recurrent_packed(mode: str, data: torch.Tensor, batch_sizes: torch.Tensor, hx: torch.Tensor,
                      params: list[torch.Tensor], has_biases: bool, num_layers: int,
                      bidirectional: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return _over_rows(mode, data, [hx], params, num_layers, bidirectional), torch.empty_like(hx)


def _lstm_packed(data: torch.Tensor, batch_sizes: torch.Tensor, hx: list[torch.Tensor], params: list[torch.Tensor],
                 has_biases: bool, num_layers: int,
                 bidirectional: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    y = _over_rows("lstm", data, hx, params, num_layers, bidirectional)
    return y, torch.empty_like(hx[0]), torch.empty_like(hx[1])


def _packed(input: torch.Tensor, steps: Any) -> tuple[torch.Tensor, torch.Tensor]:
    _check(input.dim() >= 2, "pack_padded_sequence: expected an input of rank 2 or more")
    rows = torch.library.get_ctx().new_dynamic_size()
    return input.new_empty((rows, *input.shape[2:])), input.new_empty((steps,), dtype=torch.int64, device="cpu")


def _pack(input: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> tuple[torch.Tensor, torch.Tensor]:
    _check(lengths.dim() == 1, "pack_padded_sequence: lengths must be a vector")
    _check(lengths.shape[0] == input.shape[0 if batch_first else 1],
           "pack_padded_sequence: expected as many lengths as rows of the batch")
    return _packed(input, input.shape[1 if batch_first else 0])


def _pack_input(input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return _packed(input, input.shape[1])


def _unpack(data: torch.Tensor, batch_sizes: torch.Tensor, batch_first: bool, padding_value: float,
            total_length: Any, batch: Any, whole: bool) -> tuple[torch.Tensor, torch.Tensor]:
    lead = (batch, total_length) if batch_first else (total_length, batch)
    return data.new_empty((*lead, *data.shape[1:])), batch_sizes.new_empty((batch,))


for _name, _shapes in {"recurrent": _recurrent, "lstm": _lstm, "recurrent_packed": _recurrent_packed, "pack": _pack,
                       "lstm_packed": _lstm_packed, "pack_input": _pack_input, "unpack": _unpack}.items():
    _TORCH.library.register_fake(f"{NAMESPACE}::{_name}", _shapes, lib=_LIBRARY)


class StandIns(TorchFunctionMode):
    """Within this mode recurrent calls and packing are the library's operators."""

    def __init__(self) -> None:
        super().__init__()
        self._batches: list[tuple[torch.Tensor, Any]] = []  # the batch sizes of packed sequences, and their first
        vf = _TORCH._VF
        self._calls: dict[Any, Callable[..., Any]] = {
            torch.nn.functional.embedding_bag: embedding_bag,
            torch.avg_pool1d: _avg_pool1d, torch.max_pool1d: _max_pool1d, torch.nn.functional.max_pool1d: _max_pool1d,
            vf.lstm: self.lstm, vf._pack_padded_sequence: self.pack, vf._pad_packed_sequence: self.unpack,
            **{getattr(vf, mode): _bound(self.recurrent, mode) for mode in MODES[1:]}}

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        if func is torch.Tensor.__getitem__ and type(args[1]) is int and args[1] == 0:
            batch = self._batch(args[0])
            if batch is not None:
                return batch
        return self._calls.get(func, func)(*args, **(kwargs or {}))

    def _batch(self, sizes: Any) -> Any:
        return next((batch for known, batch in self._batches if known is sizes), None)

    def _check_batch(self, sizes: torch.Tensor, hx: Sequence[torch.Tensor]) -> None:
        for state in hx:
            _check(state.shape[1] == self._batch(sizes), "a packed sequence and its initial states differ in the batch")

    def check_packed_alike(self, inputs: Sequence[torch.Tensor]) -> None:
        """Padded inputs, [batch, time, ...], that stand for packed ones have the sizes of the first."""
        for other in inputs[1:]:
            _check(other.shape[:2] == inputs[0].shape[:2], "packed inputs differ in their batches or their times")

    def pack_input(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The packed form of a padded input [batch, time, ...] whose lengths the call of the compiled model says."""
        data, sizes = torch.ops.rnngraph.pack_input(input)
        self._batches.append((sizes, input.shape[0]))
        return data, sizes

    def pack(self, input: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> tuple[torch.Tensor, torch.Tensor]:
        data, sizes = torch.ops.rnngraph.pack(input, lengths, batch_first)
        self._batches.append((sizes, input.shape[0 if batch_first else 1]))
        return data, sizes

    def unpack(self, data: torch.Tensor, sizes: torch.Tensor, batch_first: bool, padding_value: float,
               total_length: Any) -> Any:
        batch = self._batch(sizes)
        _check(batch is not None, "pad_packed_sequence: expected batch sizes that pack_padded_sequence gave")
        whole = _total_length_given()
        return torch.ops.rnngraph.unpack(data, sizes, batch_first, float(padding_value), total_length, batch, whole)

    def lstm(self, x: torch.Tensor, *rest: Any) -> Any:
        if isinstance(rest[0], torch.Tensor):
            sizes, hx, params, has_biases, layers, _, _, both = rest
            self._check_batch(sizes, hx)
            return torch.ops.rnngraph.lstm_packed(x, sizes, list(hx), list(params), has_biases, layers, both)
        hx, params, has_biases, layers, _, _, both, batch_first = rest
        return torch.ops.rnngraph.lstm(x, list(hx), list(params), has_biases, layers, both, batch_first)

    def recurrent(self, mode: str, x: torch.Tensor, *rest: Any) -> Any:
        if isinstance(rest[1], torch.Tensor):
            sizes, hx, params, has_biases, layers, _, _, both = rest
            self._check_batch(sizes, [hx])
            return torch.ops.rnngraph.recurrent_packed(mode, x, sizes, hx, list(params), has_biases, layers, both)
        hx, params, has_biases, layers, _, _, both, batch_first = rest
        return torch.ops.rnngraph.recurrent(mode, x, hx, list(params), has_biases, layers, both, batch_first)


def _bound(function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return function(mode, *args)

    return call


def _total_length_given() -> bool:
    """Whether pad_packed_sequence, which is calling, was given a total_length; it hands on a length in any case."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not _PAD:
        frame = frame.f_back
    return frame is not None and frame.f_locals.get("total_length") is not None


def _max_pool1d(input: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """With the indices: the operator without them fixes the size."""
    if isinstance(kernel_size, torch.SymInt) and not return_indices:
        _check(kernel_size == input.shape[-1], "max_pool1d over a window of open size: expected the whole axis")
        return input.amax(-1, keepdim=True)
    given = (kernel_size, stride, padding, dilation)
    window, step, around, distance = ([v] if isinstance(v, int) else v for v in given)
    found = torch.ops.aten.max_pool1d_with_indices(input, window, step or [], around, distance, ceil_mode)
    return tuple(found) if return_indices else found[0]


def _avg_pool1d(input: torch.Tensor, kernel_size: Any, *rest: Any, **options: Any) -> torch.Tensor:
    """The mean where the window is the whole axis, of open size."""
    window = kernel_size[0] if isinstance(kernel_size, list | tuple) else kernel_size
    if not isinstance(window, torch.SymInt):
        return torch.avg_pool1d(input, kernel_size, *rest, **options)
    _check(window == input.shape[-1], "avg_pool1d over a window of open size: expected the whole axis")
    return input.mean(-1, keepdim=True)


@contextmanager
def standing_in(module: torch.nn.Module) -> Iterator[StandIns]:
    """Recurrent calls and packing as the library's operators, while ``module`` is exported.

    PyTorch's own check of a recurrent module's arguments compares Python numbers, which would fix the batch of packed
    sequences; the operators check the same on symbols.
    """
    recurrent = [m for m in module.modules() if isinstance(m, RNNBase) and "check_forward_args" not in vars(m)]
    for m in recurrent:
        vars(m)["check_forward_args"] = _no_check
    try:
        with StandIns() as mode:
            yield mode
    finally:
        for m in recurrent:
            del vars(m)["check_forward_args"]


def _no_check(*_: object) -> None:
    """In place of RNNBase.check_forward_args."""
