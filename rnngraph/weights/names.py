"""Names of arrays in systems where a layer, or a direction of one, has its arrays to itself.

We write `layer0/forward/kernel`; `layer0/` only where there are several layers, `forward/` or `backward/` only where
there are two directions. What is read may stand deeper and be called otherwise: everything in front of a known name
says which layer and direction the array is of, and one that says backward, bw or reverse is the backward direction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from rnngraph.errors import ConversionError
from rnngraph.weights.gates import Array

if TYPE_CHECKING:
    from rnngraph.weights.canonical import CellWeights, RecurrentWeights

Site: TypeAlias = dict[str, Array]  # the arrays of one layer and direction, by their known name
BACKWARD = re.compile(r"(^|[/._])(backward|bw|bwd|reverse)(?=$|[/._]|\d)")
_NUMBER = re.compile(r"_?(\d+)")


def selected(params: dict[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays whose name starts with ``prefix``, without it; ConversionError when there are none."""
    found = {name[len(prefix):]: array for name, array in params.items() if name.startswith(prefix)}
    if not params:
        raise ConversionError("expected arrays by name, got none")
    if not found:
        known = ", ".join(list(params)[:8])
        raise ConversionError(f"no array has a name that starts with {prefix!r}; there are {known}")
    return found


def sites(params: dict[str, Array], leaves: Sequence[str], prefix: str, directions: bool = True) -> list[list[Site]]:
    """The arrays by layer and direction; ConversionError for unknown names, or a direction that is missing.

    ``leaves`` are the known names. Layers stand in the order of their numbers, or in that of the arrays where their
    names differ in more than numbers. Without ``directions`` the arrays of a layer hold both.
    """
    groups: dict[str, Site] = {}
    unknown: list[str] = []
    for name, array in selected(params, prefix).items():
        fitting = [leaf for leaf in leaves if name == leaf or name.endswith(f"/{leaf}") or name.endswith(f".{leaf}")]
        if not fitting:
            unknown.append(name)
            continue
        leaf = max(fitting, key=len)
        groups.setdefault(name[: len(name) - len(leaf)], {})[leaf] = array
    if unknown:
        raise ConversionError(f"unknown arrays {', '.join(unknown[:8])}; expected names that end in "
                              f"{', '.join(leaves)}, or a prefix that selects them")
    if not directions:
        return [[groups[name]] for name in in_order(list(groups))]
    forward = in_order([name for name in groups if not BACKWARD.search(name)])
    backward = in_order([name for name in groups if BACKWARD.search(name)])
    if backward and len(forward) != len(backward):
        raise ConversionError(f"expected each layer forwards and backwards, got {', '.join(forward)} and "
                              f"{', '.join(backward)}")
    return [[groups[name] for name in pair] for pair in (zip(forward, backward, strict=True) if backward else
                                                         ([name] for name in forward))]


def in_order(names: list[str]) -> list[str]:
    """By number where the names differ in numbers only, else as they are.

    >>> in_order(["layer10/", "layer2/"]), in_order(["lstm_1/", "lstm/"]), in_order(["two/", "one/"])
    (['layer2/', 'layer10/'], ['lstm/', 'lstm_1/'], ['two/', 'one/'])
    """
    if len({_NUMBER.sub("", name) for name in names}) > 1:
        return names
    return sorted(names, key=lambda name: [[int(n) for n in _NUMBER.findall(part)] for part in name.split("/")])


def write_sites(weights: RecurrentWeights, prefix: str, store: Callable[[CellWeights], Site]) -> dict[str, Array]:
    """The arrays of every layer and direction, with our names."""
    found: dict[str, Array] = {}
    for number, layer in enumerate(weights.cells):
        for direction, cell in zip(("forward/", "backward/"), layer, strict=False):
            site = site_prefix(weights, number) + (direction if weights.directions == 2 else "")
            found |= {f"{prefix}{site}{name}": array for name, array in store(cell).items()}
    return found


def site_prefix(weights: RecurrentWeights, layer: int) -> str:
    """What stands in front of the names of a layer."""
    return f"layer{layer}/" if weights.layers > 1 else ""


def need(site: Site, name: str) -> Array:
    """The array of a name; ConversionError when it is missing."""
    if name not in site:
        raise ConversionError(f"the array {name!r} is missing; there are {', '.join(site) or 'none'}")
    return site[name]


def gates_of(rows: int, hidden: int, what: str) -> int:
    """How many gates stand in ``rows``; ConversionError unless it is a whole number."""
    if hidden < 1 or rows % hidden or rows // hidden not in (1, 3, 4):
        raise ConversionError(f"{what}: {rows} gate rows for {hidden} units are neither an LSTM (4), a GRU (3) nor a "
                              "plain RNN (1)")
    return rows // hidden


def mode_of(gates: int, given: str | None, plain: str = "rnn_tanh") -> str:
    """The mode of so many gates; ConversionError when ``given`` is another."""
    found = {4: "lstm", 3: "gru", 1: plain}[gates]
    if given is None or given == found:
        return found
    if gates == 1 and given in ("rnn_tanh", "rnn_relu"):
        return given
    raise ConversionError(f"mode {given!r} was asked for, but the arrays have {gates} gate(s): {found}")


def matrix(site: Site, name: str, rank: int = 2) -> Array:
    """The array of a name; ConversionError unless it is there and has this rank."""
    array = need(site, name)
    if array.ndim != rank:
        raise ConversionError(f"{name}: expected an array of rank {rank}, got the shape {list(array.shape)}")
    return array
