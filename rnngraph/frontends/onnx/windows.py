"""Windows as ONNX writes them: channels first, pads as [in front ..., behind ...], auto_pad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.onnx.proto import Node
from rnngraph.ir import Dim, dims
from rnngraph.nn.tensor import Tensor

AUTO = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True, slots=True)
class Window:
    """One number per spatial dim of each."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.low, self.high, strict=True))


def window_of(node: Node, spatial: Sequence[Dim], size: Sequence[int] | None) -> Window:
    """The window of a node on an input with these spatial dims; ``size`` where it is not its kernel_shape."""
    n = len(spatial)
    kernel = numbers(node, "kernel_shape", n, size, 1)
    strides, dilations = numbers(node, "strides", n, [1] * n, 1), numbers(node, "dilations", n, [1] * n, 1)
    auto = auto_pad(node)
    if auto in ("NOTSET", "VALID"):
        pads = numbers(node, "pads", 2 * n, [0] * 2 * n, 0) if auto == "NOTSET" else (0,) * 2 * n
        return Window(kernel, strides, dilations, pads[:n], pads[n:])
    total = [_same(node, d, k, s, dl) for d, k, s, dl in zip(spatial, kernel, strides, dilations, strict=True)]
    half, rest = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    low, high = (half, rest) if auto == "SAME_UPPER" else (rest, half)
    return Window(kernel, strides, dilations, low, high)


def auto_pad(node: Node) -> str:
    found = node.attr("auto_pad", "NOTSET") or "NOTSET"
    if found not in AUTO:
        raise ImportModelError(f"{node}: auto_pad must be one of {', '.join(AUTO)}, got {found!r}")
    return found


def numbers(node: Node, name: str, n: int, default: Sequence[int] | None, least: int) -> tuple[int, ...]:
    """An attribute of ``n`` integers."""
    found = node.ints(name, default)
    if found is None or len(found) != n or any(v < least for v in found):
        raise ImportModelError(f"{node}: {name} must be {n} number(s) >= {least}, got {found}")
    return found


def _same(node: Node, size: Dim, kernel: int, stride: int, dilation: int) -> int:
    """How much padding makes ceil(size / stride) windows."""
    reach = dilation * (kernel - 1) + 1
    if stride == 1:
        return reach - 1
    if not isinstance(size, int):
        raise NeedsSize(sorted(dims.symbols_of(size)), f"{node} pads {size} to windows {stride} apart")
    return max((-(-size // stride) - 1) * stride + reach - size, 0)


def images(node: Node, x: Tensor) -> tuple[Dim, ...]:
    """The spatial dims of [N, C, *S]."""
    if x.rank < 3:
        raise ImportModelError(f"{node}: expected [batch, channels, *spatial dims], got {x.type}")
    return x.shape[2:]
