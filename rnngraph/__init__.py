"""rnngraph: a compiler for recurrent models. The public names; each is imported when first used.

>>> import rnngraph as rg
>>> sorted(rg.__all__)[:3]
['CompiledModel', 'Input', 'Report']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rnngraph import backends, data, errors, ir, nn, passes, weights
    from rnngraph.compiler import compile
    from rnngraph.export import to_onnx
    from rnngraph.frontends.keras import from_keras
    from rnngraph.frontends.mxnet import from_mxnet, load_rnn_checkpoint, save_rnn_checkpoint
    from rnngraph.frontends.onnx import from_onnx as from_onnx
    from rnngraph.frontends.torch import from_torch
    from rnngraph.frontends.torch.state import load_state_dict
    from rnngraph.inspection import recurrences
    from rnngraph.nn import Input, Sequential, scan, trace, while_loop
    from rnngraph.report import Report
    from rnngraph.runtime.model import CompiledModel

__all__ = ["CompiledModel", "Input", "Report", "Sequential", "__version__", "backends", "compile", "data", "errors",
           "from_keras", "from_mxnet", "from_onnx", "from_torch", "ir", "load_rnn_checkpoint", "load_state_dict", "nn",
           "passes", "recurrences", "save_rnn_checkpoint", "scan", "to_onnx", "trace", "weights", "while_loop"]

_MODULES = ("backends", "data", "errors", "ir", "nn", "passes", "weights")
_NAMES = {
    "compile": "rnngraph.compiler",
    "to_onnx": "rnngraph.export",
    "CompiledModel": "rnngraph.runtime.model",
    "Report": "rnngraph.report",
    "from_keras": "rnngraph.frontends.keras",
    "from_mxnet": "rnngraph.frontends.mxnet",
    "load_rnn_checkpoint": "rnngraph.frontends.mxnet",
    "save_rnn_checkpoint": "rnngraph.frontends.mxnet",
    "from_onnx": "rnngraph.frontends.onnx:from_onnx",
    "from_torch": "rnngraph.frontends.torch",
    "recurrences": "rnngraph.inspection",
    "load_state_dict": "rnngraph.frontends.torch.state",
    "Input": "rnngraph.nn",
    "Sequential": "rnngraph.nn",
    "scan": "rnngraph.nn",
    "trace": "rnngraph.nn",
    "while_loop": "rnngraph.nn",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        value: object = import_module(f"rnngraph.{name}")
    elif name in _NAMES:
        module, _, attribute = _NAMES[name].partition(":")
        value = getattr(import_module(module), attribute or name)
    else:
        raise AttributeError(f"module 'rnngraph' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
