"""Which steps of a recurrence are left out: the mask that a layer is given, that its input has, or the call's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import BOOL, Value
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor

if TYPE_CHECKING:
    from rnngraph.nn.recurrent import RNN


def time_mask(x: Tensor, mask: Tensor | None, time_major: bool) -> tuple[Value | None, Value | None]:
    """The mask [time, batch] of a recurrence over ``x``, and its lengths: one of them, or neither.

    The first that there is: ``mask``, the mask that came with ``x``, what the trace is asked for. A mask that is
    known to say lengths gives these. Raises ShapeError for a mask that does not fit, TraceError for both.
    """
    trace = active()
    given = own_mask(x, mask)
    batch, steps = (x.shape[1], x.shape[0]) if time_major else x.shape[:2]
    if given is None:
        keep = trace.mask_for(steps, batch, time_major=time_major)
        return keep, trace.lengths_for(steps, batch)
    if given.type.dtype is not BOOL or given.shape != x.shape[:2]:
        layout = "time, batch" if time_major else "batch, time"
        raise ShapeError(f"expected a mask bool[{','.join(map(str, x.shape[:2]))}] ([{layout}]), got {given.type}")
    if trace.lengths_for(steps, batch) is not None:
        raise TraceError(f"layer {trace.path!r}: expected lengths or a mask, got both; a mask says all that lengths "
                         "say: leave the lengths out, or the mask")
    if given in trace.mask_lengths:
        return None, trace.mask_lengths[given]
    return (given if time_major else trace.builder.transpose(given, (1, 0))), None


def own_mask(x: Tensor, mask: Tensor | None) -> Value | None:
    """The mask that a layer is given, or the one that its input has."""
    if mask is None:
        return active().time_masks.get(x.value())
    if not isinstance(mask, Tensor):
        raise ShapeError(f"expected a tensor as mask, got {type(mask).__name__}; declare it as "
                         "Input((batch, time), dtype='bool'), or give it to the compiled model: compiled(x, mask=..)")
    return mask.value()


def hand_on(layer: RNN, x: Tensor, mask: Tensor | None, *outputs: Tensor) -> None:
    """Give output sequences the mask that the layer ran under (Keras); a last output has none."""
    given = own_mask(x, mask)
    if given is not None and layer.return_sequences:
        active().time_masks.update((y.value(), given) for y in outputs)
