"""The systems whose layouts are known. Each is a module of `rnngraph.weights.formats`, imported when first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rnngraph.errors import ConversionError
from rnngraph.weights.fit import Limits, fit
from rnngraph.weights.gates import GATES, Array
from rnngraph.weights.options import Options

if TYPE_CHECKING:
    from rnngraph.weights.canonical import RecurrentWeights

# name -> the module that holds its FORMAT
FORMATS: dict[str, str] = {
    "torch": "torch",
    "keras": "keras",
    "keras_cudnn": "keras_cudnn",
    "onnx": "onnx",
    "mxnet": "mxnet",
    "mxnet_unpacked": "mxnet_unpacked",
    "mxnet_cells": "mxnet_cells",
    "tf": "tf",
    "tf_cudnn": "tf_cudnn",
    "cudnn": "cudnn",
    "onednn": "onednn",
    "openvino": "openvino",
    "flux": "flux",
    "lasagne": "lasagne",
    "element_research": "element_research",
    "cntk": "cntk",
}
ALIASES: dict[str, str] = {"pytorch": "torch", "gluon": "mxnet_cells", "tensorflow": "tf"}

# option -> its type
KINDS: dict[str, Any] = {"mode": str, "prefix": str, "bias_mode": str, "reset_after": bool, "fold_bias": bool,
                         "forget_bias": int | float, "hidden": int, "layers": int, "directions": int, "projection": int}


@dataclass(frozen=True, slots=True)
class Format:
    """The layout of one system.

    gates          the order of the gates, by mode; a mode that is missing is not supported
    limits         what the layout cannot hold
    load           arrays by name, options -> canonical form
    store          canonical form that fits the limits, options -> arrays by name
    load_options, store_options
                   the options that the two take, beside prefix and fold_bias
    names          what arrays in a row, without names, are called; None where they need names
    """

    name: str
    title: str
    gates: Mapping[str, str]
    limits: Limits
    load: Callable[[dict[str, Array], Options], RecurrentWeights]
    store: Callable[[RecurrentWeights, Options], dict[str, Array]]
    load_options: tuple[str, ...] = ()
    store_options: tuple[str, ...] = ()
    names: Callable[[int], list[str]] | None = None

    def read(self, params: Any, options: Options) -> RecurrentWeights:
        """The canonical form of the arrays; ConversionError when they are not of this layout."""
        self._check_options(options, ("prefix", *self.load_options), "from")
        try:
            return self.load(params, options)
        except (ValueError, IndexError) as e:  # numpy's, of shapes that do not fit
            raise ConversionError(f"{self.name}: the arrays do not fit together: {e}") from e

    def write(self, weights: RecurrentWeights, options: Options) -> dict[str, Array]:
        """The arrays by name, each contiguous and a copy; ConversionError naming what would be lost."""
        self._check_options(options, ("prefix", "fold_bias", *self.store_options), "to")
        if weights.mode not in self.gates:
            raise ConversionError(f"{self.title} has no layout for {weights.mode}, only {', '.join(self.gates)}")
        fitting = fit(weights, self.limits, self.title, options.get("fold_bias", True))
        stored = self.store(fitting, options)
        return {name: array.copy(order="C") for name, array in stored.items()}

    def _check_options(self, options: Options, known: tuple[str, ...], way: str) -> None:
        if unknown := [name for name in options if name not in known]:
            raise ConversionError(f"{way} {self.name}: the option {unknown[0]!r} is not known here; there are "
                                  f"{', '.join(known)}")
        for name, value in options.items():
            if not isinstance(value, KINDS[name]) or (isinstance(value, bool) and KINDS[name] is not bool):
                raise ConversionError(f"{way} {self.name}: the option {name} cannot be {value!r}")
        if options.get("mode", "lstm") not in GATES:
            raise ConversionError(f"mode: expected one of {', '.join(GATES)}, got {options.get('mode')!r}")


def find(name: str) -> Format:
    """The format of a system; ConversionError lists the names when it is unknown."""
    name = ALIASES.get(name, name)
    if name not in FORMATS:
        raise ConversionError(f"unknown system {name!r}; expected one of {', '.join((*FORMATS, *ALIASES))}")
    found: Format = import_module(f"rnngraph.weights.formats.{FORMATS[name]}").FORMAT
    return found
