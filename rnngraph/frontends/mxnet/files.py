"""Where a model's files are, and its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.ir import Array
from rnngraph.weights.files import read

Params: TypeAlias = "str | Path | Mapping[str, Array]"
END = "-symbol.json"


def symbol_and_params(prefix: str | Path | None, epoch: int | None, symbol: str | Path | None,
                      params: Params | None) -> tuple[Path, Params | None]:
    """The path of the symbol, and the parameters; ImportModelError where there are none, or more than one."""
    if (prefix is None) == (symbol is None):
        raise ImportModelError("from_mxnet: expected a prefix, or symbol= with the path of a -symbol.json file")
    where = Path(f"{prefix}{END}") if symbol is None else Path(symbol)
    if not where.is_file():
        raise ImportModelError(f"{where}: no such file; expected a symbol, as save_checkpoint and export write it")
    if params is not None:
        return where, params
    stem = where.name.removesuffix(END).removesuffix(".json")
    if epoch is not None:
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise ImportModelError(f"from_mxnet: epoch is a number >= 0, got {epoch!r}")
        wanted = where.with_name(f"{stem}-{epoch:04d}.params")
        if not wanted.is_file():
            raise ImportModelError(f"{wanted}: there is no such file; {_there(where, stem)}")
        return where, wanted
    found = _candidates(where, stem)
    if len(found) > 1:
        raise ImportModelError(f"{where}: more than one file of parameters: {', '.join(p.name for p in found)}; say "
                               "epoch= or params=")
    return where, found[0] if found else None


def _candidates(where: Path, stem: str) -> list[Path]:
    return sorted(p for p in where.parent.iterdir()
                  if p.suffix == ".params" and p.name[:-7].rpartition("-")[0] == stem
                  and p.name[:-7].rpartition("-")[2].isdigit())


def _there(where: Path, stem: str) -> str:
    found = _candidates(where, stem)
    return f"there is {', '.join(p.name for p in found)}" if found else f"there are no {stem}-*.params"


def read_params(params: Params) -> dict[str, Array]:
    """Arrays by name, without the "arg:" and "aux:" of checkpoints."""
    arrays = read(params) if isinstance(params, str | Path) else {n: np.asarray(a) for n, a in params.items()}
    found: dict[str, Array] = {}
    for name, array in arrays.items():
        plain = name[4:] if name.startswith(("arg:", "aux:")) else name
        if plain in found:
            raise ImportModelError(f"parameter {plain!r} is there twice, as arg: and aux:")
        found[plain] = array
    return found
