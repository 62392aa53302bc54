"""The readers that are fuzzed, by name."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

import rnngraph as rg
from rnngraph.frontends.imported import NeedsSize, NeedsValue
from rnngraph.ir import Array
from tests.fuzz import keras_seeds
from tests.fuzz.harness import Target
from tests.fuzz.mutate import mutated, mutated_json, mutated_onnx
from tests.fuzz.onnx_seeds import seeds as onnx_seeds
from tests.fuzz.torch_seeds import mutated_pickle
from tests.fuzz.torch_seeds import seeds as torch_seeds

MXNET = Path(__file__).resolve().parents[1] / "data" / "mxnet"


def read_onnx(path: Path) -> None:
    """Read and trace; what the structure depends on is zeros, and sizes of 2."""
    model = rg.from_onnx(path)
    for _ in range(3):
        try:
            rg.trace(model)
            return
        except NeedsValue as e:
            types = {x.name: x.type for x in model.inputs if x.name in e.names}
            model = model.specialized({n: np.zeros([d if isinstance(d, int) and d < 9 else 2 for d in t.shape],
                                                   t.dtype.numpy) for n, t in types.items()}, {}).settled()
        except NeedsSize as e:
            model = model.specialized({}, dict.fromkeys(e.symbols, 2)).settled()


def read_checkpoint(path: Path) -> None:
    rg.weights.read(path)


@cache
def parameters() -> dict[str, Array]:
    """Those of all the symbols among the seeds."""
    return {n: a for p in MXNET.glob("gluon_*.params") for n, a in rg.weights.read(p).items()}


def read_symbol(path: Path) -> None:
    rg.trace(rg.from_mxnet(symbol=path, params=parameters()))


def read_keras(path: Path) -> None:
    rg.trace(rg.from_keras(path))


def targets() -> dict[str, Target]:
    """Made when asked for: the seeds take time."""
    found = [
        Target("onnx", ".onnx", onnx_seeds(), read_onnx, (mutated, mutated_onnx, mutated_onnx)),
        Target("h5", ".h5", [keras_seeds.h5(), keras_seeds.h5(compressed=True)], read_keras, (mutated,)),
        Target("keras", ".keras", [keras_seeds.archive()], read_keras, (mutated, keras_seeds.mutated_archive)),
        Target("mxnet-symbol", ".json", [p.read_bytes() for p in sorted(MXNET.glob("gluon_*-symbol.json"))],
               read_symbol, (mutated, mutated_json, mutated_json)),
        Target("mxnet-params", ".params", [p.read_bytes() for p in sorted(MXNET.glob("gluon_*.params"))],
               read_checkpoint, (mutated,)),
        Target("torch", ".pt", torch_seeds(), read_checkpoint, (mutated, mutated_pickle, mutated_pickle)),
    ]
    return {t.name: t for t in found}
