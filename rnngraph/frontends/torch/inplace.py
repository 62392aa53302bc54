"""Operators that change a tensor: read as they are where the tensor is nobody else's, else rewritten by PyTorch."""

from __future__ import annotations

import warnings

import torch
from torch.export import ExportedProgram

from rnngraph.errors import ImportModelError


def functional(exported: ExportedProgram) -> ExportedProgram:
    """The program itself where every in-place operator can be read as one that returns a new value, else a copy
    without in-place operators, as `ExportedProgram.run_decompositions` makes it."""
    changing = [n for n in exported.graph.nodes if _changed(n) is not None]
    if all(_harmless(n) for n in changing):
        return exported
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what PyTorch itself deprecates
            made: ExportedProgram = exported.run_decompositions({})
            return made
    except Exception as e:  # PyTorch's, of any class
        raise ImportModelError(f"forward changes tensors in place ({changing[0].target}), and PyTorch cannot rewrite "
                               f"it without: {type(e).__name__}: {str(e)[:400]}") from e


def _changed(node: torch.fx.Node) -> torch.fx.Node | None:
    """The node whose tensor ``node`` changes."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return None
    if not node.target._schema.is_mutable:
        return None
    first = node.args[0] if node.args else None
    return first if isinstance(first, torch.fx.Node) else node


def _harmless(node: torch.fx.Node) -> bool:
    """Whether it changes a fresh tensor that nothing else than it reads."""
    base = _changed(node)
    if base is None or base is node or base.op != "call_function" or len(base.users) != 1:
        return False
    if not isinstance(base.target, torch._ops.OpOverload):
        source = base.args[0] if base.args else None
        fresh = isinstance(source, torch.fx.Node) and _makes_tensors(source)
    else:
        fresh = _makes_tensors(base) or (_changed(base) is not None and _harmless(base))
    return fresh


def _makes_tensors(node: torch.fx.Node) -> bool:
    """Whether its results share memory with no argument."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    schema = node.target._schema
    name = schema.name.partition("::")[2]
    return (name not in _MAYBE_VIEWS and schema.name.partition("::")[0] in ("aten", "rnngraph")
            and all(r.alias_info is None for r in schema.returns))


# operators that may return their argument, or a view of it, without their schema saying so
_MAYBE_VIEWS = {"reshape", "contiguous", "to", "flatten", "dropout", "expand_as", "type_as", "chunk", "split", "unbind",
                "tensor_split", "unflatten", "narrow", "view_as", "squeeze", "movedim", "swapaxes", "atleast_2d",
                "feature_dropout", "alpha_dropout", "conj", "resolve_conj", "pad", "hsplit", "float", "double"}
