"""The backends, by name. Each registers implementations; selection chooses; the chosen backend builds.

`BACKENDS` and `DEVICES` are tables of strings, loaded when first asked for: to add a backend, add a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import cast

from rnngraph.backends.registry import Backend, Device, Implementation, Machine, Registry
from rnngraph.errors import CompileError

BACKENDS: dict[str, str] = {
    "reference": "rnngraph.backends.reference:backend",
    "llvm": "rnngraph.backends.llvm:backend",
    "cupy": "rnngraph.backends.cupy:backend",
}

DEVICES: dict[str, str] = {
    "gpu": "rnngraph.backends.cupy.device:discover",
}


def _load(reference: str) -> Callable[[], object]:
    module, name = reference.split(":")
    loaded: Callable[[], object] | None = getattr(import_module(module), name, None)
    if loaded is None:
        raise ImportError(f"module {module} has no {name}")
    return loaded


@cache
def load(name: str) -> Backend:
    """The backend called ``name``, made once.

    Raises CompileError (with the known names) for an unknown one, ImportError for one that cannot be
    imported.
    """
    if name not in BACKENDS:
        raise CompileError(f"unknown backend {name!r}; the backends are {', '.join(BACKENDS)}")
    return cast(Backend, _load(BACKENDS[name])())


def default_registry(machine: Machine | None = None, precision: str = "f32",
                     without: Iterable[str | tuple[str, str]] = ()) -> Registry:
    """What every backend registers; one that cannot be imported is in ``unavailable``, with the reason. ``precision``:
    what products may be computed in; ``without``: what is not to be chosen."""
    implementations: list[Implementation] = []
    unavailable: dict[str, str] = {}
    for name in BACKENDS:
        try:
            implementations += load(name).implementations()
        except ImportError as e:
            unavailable[name] = str(e)
    devices = {target: _finder(reference) for target, reference in DEVICES.items()}
    return Registry(implementations, devices=devices, machine=machine, unavailable=unavailable, precision=precision,
                    without=without)


def _finder(reference: str) -> Callable[[], Device]:
    """Loads the module only when the device is asked for."""

    def find() -> Device:
        device = _load(reference)()
        assert isinstance(device, Device)
        return device

    return find
