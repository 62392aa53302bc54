"""torch.export of a module, with sizes left open wherever PyTorch can leave them open."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch.export import Dim, ExportedProgram
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils import _pytree as pytree

from rnngraph.errors import ImportModelError, InputError
from rnngraph.frontends.torch.stand_ins import StandIns, standing_in

_CONFIG: Any = import_module("torch.fx.experimental._config")  # a module that PyTorch gives methods at run time
NARROW = 2  # a size that may be no more than this is one that the module fixes, such as a convolution's channels
GROWN = 3  # the size of an example's axis of size 1 when a larger one is tried
MAX_QUOTED = 1200  # characters of PyTorch's message


def export(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None,
           dynamic_shapes: Any = None) -> ExportedProgram:
    """The exported program of a module; ``dynamic_shapes`` as torch.export's, None to leave open what can be.

    ImportModelError, with PyTorch's reason and what to do, when torch.export refuses the module; InputError when the
    module itself cannot be called with these arguments.
    """
    args, kwargs = tuple(args), dict(kwargs or {})
    order = {name: at for at, name in enumerate(_named(module, args, kwargs))}
    kwargs = dict(sorted(kwargs.items(), key=lambda item: order.get(item[0], len(order))))  # as forward has them
    try:
        places, (padded, named) = _padded((args, kwargs))
        with _evaluation(module), standing_in(module) as mode, _taking(module, places, named, mode):
            if dynamic_shapes is None:
                return _open(module, padded, named)
            return _export(module, padded, named, dynamic_shapes)
    except ImportModelError:
        raise
    except Exception as e:  # torch.export lets through whatever a forward and its own layers raise
        _check_call(module, args, kwargs)
        raise ImportModelError(
            f"torch.export refuses {type(module).__name__}: {_quoted(e)}\nMake its forward exportable (no branches "
            "or Python numbers that depend on the values of tensors), give rnngraph.compile the part of the module "
            "that is, or pass a torch.export.ExportedProgram of your own") from e


def _open(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    """With open sizes: where even 0 and 1 are no special cases, else as torch.export leaves them, else none."""
    failed: Exception | None = None
    for oblivious in (True, False):
        try:
            with _CONFIG.patch(backed_size_oblivious=oblivious):
                return _opened(module, args, kwargs)
        except Exception as e:  # whatever PyTorch finds; the last attempt says what the user sees
            failed = e
    program = _export(module, args, kwargs, None)
    warnings.warn(f"torch.export of {type(module).__name__} works with the sizes of the example inputs alone, so the "
                  f"model has these sizes: {_quoted(failed)}", stacklevel=4)
    return program


def _opened(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    """Sizes that turn out to be at most `NARROW` are fixed, unless larger examples show that they need not be."""
    first = _export(module, args, kwargs, _shapes(module, args, kwargs, set()))
    narrow = _narrow(module, first, args, kwargs)
    if not narrow:
        return first
    ones = {(pytree.keystr(path), axis) for path, leaf in pytree.tree_leaves_with_path(_named(module, args, kwargs))
            if isinstance(leaf, torch.Tensor) for axis, size in enumerate(leaf.shape) if size == 1}
    for grown in (narrow, *({(place, a) for place, a in ones if a == axis} for axis in (0, 1))):
        try:
            larger = _grown(args, kwargs, module, grown)
            program = _export(module, *larger, _shapes(module, *larger, narrow - grown))
        except Exception:  # a size that the module fixes
            continue
        if grown and not _narrow(module, program, *larger) & grown:
            return program
    return _export(module, args, kwargs, _shapes(module, args, kwargs, narrow))


def _export(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any) -> ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of attributes that recurrent modules set, and of what PyTorch deprecates
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)


Place: TypeAlias = tuple[str, int]  # an input's path in the arguments by name, and an axis


def _named(module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by the names of forward's parameters, as torch.export takes dynamic shapes."""
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as e:
        raise InputError(f"example_inputs do not fit {type(module).__name__}.forward{signature}: {e}") from None
    return dict(bound.arguments)


def _shapes(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], fixed: set[Place]) -> Any:
    """All sizes of all tensors open, but for those in ``fixed``."""
    def one(path: Any, leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return None
        place = pytree.keystr(path)
        return {axis: Dim.STATIC if (place, axis) in fixed else Dim.AUTO for axis in range(leaf.dim())}

    return pytree.tree_map_with_path(one, _named(module, args, kwargs))


def _narrow(module: torch.nn.Module, program: ExportedProgram, args: tuple[Any, ...],
            kwargs: dict[str, Any]) -> set[Place]:
    """The sizes of inputs that are symbols, but may be no more than `NARROW`."""
    places = [pytree.keystr(p) for p, _ in pytree.tree_leaves_with_path(_named(module, args, kwargs))]
    values = [n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"][-len(places):]
    found = set()
    for place, value in zip(places, values, strict=True):
        for axis, size in enumerate(value.shape if isinstance(value, torch.Tensor) else ()):
            symbols: Any = size.node.expr.free_symbols if isinstance(size, torch.SymInt) else ()
            uppers = [program.range_constraints[s].upper for s in symbols if s in program.range_constraints]
            if any(u.is_Integer and int(u) <= NARROW for u in uppers):
                found.add((place, axis))
    return found


def _grown(args: tuple[Any, ...], kwargs: dict[str, Any], module: torch.nn.Module,
           places: set[Place]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example with axes of size 1 repeated."""
    leaves = pytree.tree_leaves_with_path(_named(module, args, kwargs))
    grown: dict[int, torch.Tensor] = {}
    for path, leaf in leaves:
        for axis in range(leaf.dim()) if isinstance(leaf, torch.Tensor) else ():
            if (pytree.keystr(path), axis) in places and leaf.shape[axis] == 1:
                grown[id(leaf)] = torch.cat([grown.get(id(leaf), leaf)] * GROWN, axis)
    larger_args, larger_kwargs = pytree.tree_map(lambda x: grown.get(id(x), x), (args, kwargs))
    return larger_args, larger_kwargs


@contextmanager
def _evaluation(module: torch.nn.Module) -> Iterator[None]:
    """The module in evaluation mode; a warning where it was in training."""
    training = [m for m in module.modules() if m.training]
    if training:
        warnings.warn(f"{type(module).__name__} is in training mode; it is compiled as in evaluation (dropout off, "
                      "running statistics): call module.eval() to say so", stacklevel=5)
    try:
        for m in training:
            m.training = False
        with torch.no_grad():
            yield
    finally:
        for m in training:
            m.training = True


def _check_call(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """InputError when the module, as it is, cannot be called with the example: then the example is to blame."""
    try:
        module, args, kwargs = copy.deepcopy((module, args, kwargs))  # a call may change buffers, or the arguments
    except Exception:  # what cannot be copied is not tried
        return
    try:
        module.eval()(*args, **kwargs)
    except Exception as e:  # whatever a forward raises
        raise InputError(f"example_inputs do not fit {type(module).__name__}, which raises, called with them, "
                         f"{_quoted(e)}") from e


@contextmanager
def _taking(module: torch.nn.Module, places: Sequence[int], kwargs: Mapping[str, Any],
            mode: StandIns) -> Iterator[None]:
    """Let forward take padded inputs, [batch, time, ...], for the packed ones at ``places`` among its flat arguments.

    Also, each of ``kwargs`` is a parameter by its name: torch.export leaves no sizes open in what ``**kwargs`` takes.
    """
    original, own = module.forward, vars(module).get("forward")
    signature = inspect.signature(original)
    parameters = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    known = {p.name for p in parameters}
    parameters += [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in kwargs if n not in known]

    def forward(*args: Any, **named: Any) -> Any:
        leaves, structure = pytree.tree_flatten((args, named))
        mode.check_packed_alike([leaves[place] for place in places])
        for place in places:
            leaves[place] = PackedSequence(*mode.pack_input(leaves[place]))
        given, by_name = pytree.tree_unflatten(leaves, structure)
        return original(*given, **by_name)

    vars(forward)["__signature__"] = signature.replace(parameters=parameters)
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        vars(module).pop("forward")
        if own is not None:
            vars(module)["forward"] = own


def _padded(arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[list[int], Any]:
    """The arguments with padded inputs for packed ones, and the places of these among the flat arguments."""
    leaves, structure = pytree.tree_flatten(arguments, is_leaf=_is_packed)
    padded = [pad_packed_sequence(x, batch_first=True)[0] if _is_packed(x) else x for x in leaves]
    return [i for i, x in enumerate(leaves) if _is_packed(x)], pytree.tree_unflatten(padded, structure)


def _is_packed(value: Any) -> bool:
    return isinstance(value, PackedSequence)


def _quoted(e: Exception | None) -> str:
    text = f"{type(e).__name__}: {e}".strip()
    text = text.split("\nSet TORCHDYNAMO_VERBOSE")[0].split("\nThe error above occurred")[0].strip()
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]} ..."
