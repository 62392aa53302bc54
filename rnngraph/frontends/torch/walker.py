"""The walk over an exported program: nodes in order, each by its handler, in the active trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rnngraph.errors import ImportModelError, RnngraphError
from rnngraph.frontends.imported import NeedsSize, Undecided
from rnngraph.frontends.nested import found_in, replaced
from rnngraph.frontends.torch.items import Item, Packed, Permutation, Permuted, Unsupported, tensor_of
from rnngraph.frontends.torch.program import Node, Program, Ref
from rnngraph.frontends.torch.registry import HANDLERS, Entry
from rnngraph.frontends.walk import refuse
from rnngraph.ir.dims import symbols_of
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor

_PERMUTED = (Permuted, Permutation, Packed)


def walk(program: Program, items: Mapping[str, Item]) -> list[Item]:
    """The outputs of a program, given its inputs and weights by name.

    ImportModelError lists every operator that has no handler, with the module that calls it.
    """
    env: dict[str, Item] = dict(items)
    unsupported: list[str] = []
    for node in program.needed():
        try:
            arguments = replaced(Ref, node.arguments, lambda ref: env[ref.name])
        except KeyError as e:
            raise ImportModelError(f"{node}: {e.args[0]!r} is made nowhere in the program") from None
        entry = HANDLERS.get(node.op) or HANDLERS.get(node.op.removesuffix("_"))
        reason = "" if entry is None else _refused(entry, arguments)
        if entry is None or reason:
            unsupported.append(f"{node}{reason}")
        unknown = entry is None or reason or list(found_in(Unsupported, arguments))
        env[node.name] = Unsupported() if unknown or entry is None else _run(node, entry, arguments)
    refuse(unsupported, "call")
    return [replaced(Ref, value, lambda ref: env[ref.name]) for _, value in program.outputs]


def _refused(entry: Entry, arguments: Mapping[str, Any]) -> str:
    if entry.takes is None:
        return ""
    odd = [f"{n}={v!r}" for n, v in arguments.items() if n not in entry.takes]
    return f" with {', '.join(odd)}" if odd else ""


def _run(node: Node, entry: Entry, arguments: dict[str, Any]) -> Item:
    packed = next(found_in(Packed, arguments), None)
    try:
        with active().scope(node.path):
            if entry.raw:
                return entry.function(node, **arguments)
            if packed is not None and entry.each_step:
                return replace(packed, rows=entry.function(node, **_by_step(arguments, packed)), zero=False)
            return entry.function(node, **replaced(_PERMUTED, arguments, tensor_of))
    except Undecided:
        raise
    except ImportModelError as e:
        raise (e if str(node) in str(e) else ImportModelError(f"{node}: {e}")) from None
    except RnngraphError as e:
        if open_sizes := _open_sizes(arguments):  # with numbers in their place it may well work
            raise NeedsSize(open_sizes, f"{node}: {e}") from e
        raise ImportModelError(f"{node}: {e}") from e


def _open_sizes(value: Any) -> list[str]:
    """The symbols in the dims of tensors, the batch only where there is no other."""
    found: dict[str, None] = {}
    stack = [value]
    while stack:
        item = stack.pop()
        stack.extend(item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ())
        shape = item.shape if isinstance(item, Tensor) else ()
        found |= dict.fromkeys(s for d in shape if isinstance(d, str) for s in symbols_of(d))
    return sorted(s for s in found if s != "batch" or len(found) == 1)


def _by_step(arguments: Mapping[str, Any], like: Packed) -> dict[str, Any]:
    """The arguments with padded rows in place of packed data, and axes counted behind batch and time."""
    def rows(value: Packed | Permuted | Permutation) -> Tensor:
        if not isinstance(value, Packed):
            return tensor_of(value)
        if not value.goes_with(like):
            raise ImportModelError("the data of two different packings cannot be combined")
        return value.rows

    found: dict[str, Any] = replaced(_PERMUTED, arguments, rows)
    dim = found.get("dim")
    if isinstance(dim, int) and dim >= 0:
        found["dim"] = dim + 1
    if isinstance(dim, int) and (dim == 0 or dim == 1 - like.rows.rank):
        raise ImportModelError("it runs over the rows of a packed sequence")
    return found
