"""State dicts of PyTorch into models of rnngraph.nn, from memory and from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn as theirs

import rnngraph as rg
from rnngraph import nn
from rnngraph.errors import ConversionError, ImportModelError, RnngraphError
from tests.frontends.torch_support import close, draw

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


class Tagger(theirs.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = theirs.LSTM(4, 6, 2, bidirectional=True, batch_first=True)
        self.norm = theirs.LayerNorm(12)
        self.out = theirs.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.out(self.norm(self.encoder(x)[0]))
        return y


def layers() -> rg.Sequential:
    """The tagger with each layer of the encoder by itself."""
    return rg.Sequential([nn.Bidirectional(nn.LSTM(6, return_sequences=True), name="low"),
                          nn.Bidirectional(nn.LSTM(6, return_sequences=True), name="high"),
                          nn.LayerNormalization(epsilon=1e-5), nn.Dense(3)])


def fused() -> rg.Sequential:
    return rg.Sequential([nn.FusedRNN.torch("lstm", None, 6, 2, bidirectional=True, batch_first=True,
                                            get_next_state=False, name="encoder"),
                          nn.LayerNormalization(epsilon=1e-5, name="norm"), nn.Dense(3, name="out")])


def as_theirs(model: Any, module: theirs.Module, first: bool = False) -> None:
    x = draw(2, 5, 4)
    got = rg.compile(model, rg.Input(("batch", "time", 4)))(x.numpy())
    want = module.eval()(x)
    close(got[0] if isinstance(got, tuple) else got, want[0] if isinstance(want, tuple) else want)


@pytest.mark.parametrize("make", [layers, fused])
def test_a_model(make: Callable[[], rg.Sequential]) -> None:
    module, model = Tagger(), make()
    rg.load_state_dict(model, module.state_dict())
    as_theirs(model, module)


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "lstm": (lambda: theirs.LSTM(4, 6, batch_first=True), lambda: nn.LSTM(6, return_sequences=True)),
    "proj": (lambda: theirs.LSTM(4, 6, proj_size=3, batch_first=True), lambda: nn.LSTM(6, proj_size=3,
                                                                                      return_sequences=True)),
    "gru": (lambda: theirs.GRU(4, 6, batch_first=True, bias=False), lambda: nn.GRU(6, use_bias=False,
                                                                                 return_sequences=True)),
    "tanh": (lambda: theirs.RNN(4, 6, batch_first=True), lambda: nn.SimpleRNN(6, return_sequences=True)),
    "relu": (lambda: theirs.RNN(4, 6, batch_first=True, nonlinearity="relu"),
             lambda: nn.SimpleRNN(6, activation="relu", return_sequences=True)),
    "fused": (lambda: theirs.RNN(4, 6, 2, batch_first=True, nonlinearity="relu"),
              lambda: nn.FusedRNN.torch("RNN_RELU", None, 6, 2, batch_first=True))}


@pytest.mark.parametrize("kind", PAIRS)
def test_a_layer(kind: str) -> None:
    module, layer = (make() for make in PAIRS[kind])
    rg.load_state_dict(layer, module.state_dict())
    as_theirs(layer, module)


def test_convolutions_and_statistics() -> None:
    class Front(theirs.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = theirs.Conv1d(4, 6, 3), theirs.BatchNorm1d(6)
            self.rnn = theirs.GRU(6, 5, batch_first=True)
            for name, buffer in self.norm.named_buffers():
                if name.startswith("running"):
                    buffer.uniform_(0.5, 2.0)

        def forward(self, x: torch.Tensor) -> Any:
            return self.rnn(torch.relu(self.norm(self.conv(x.transpose(1, 2)))).transpose(1, 2))

    model = rg.Sequential([nn.Conv1D(6, 3), nn.BatchNormalization(epsilon=1e-5), nn.Activation("relu"),
                           nn.GRU(5, return_sequences=True)])
    module = Front()
    rg.load_state_dict(model, module.state_dict())
    as_theirs(model, module)


def test_names_and_prefix() -> None:
    module, model = Tagger(), layers()
    state = {f"net.{n}": a for n, a in module.state_dict().items()}
    rg.load_state_dict(model, state, prefix="net.", names={"dense": "out", "layer_normalization": "norm"})
    as_theirs(model, module)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", "legacy", "module", "wrapped"])
def test_files(tmp_path: Path, suffix: str) -> None:
    module, model = Tagger(), layers()
    path, prefix = tmp_path / f"w{suffix if suffix[0] == '.' else '.pt'}", ""
    if suffix == ".safetensors":
        safetensors.torch.save_file(module.state_dict(), path)
    elif suffix == "legacy":
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)
    elif suffix == "module":
        torch.save(module, path)
    elif suffix == "wrapped":
        optimizer = torch.optim.Adam(module.parameters())
        torch.save({"epoch": 3, "state_dict": module.state_dict(), "optimizer": optimizer.state_dict()}, path)
        prefix = "state_dict."
    else:
        torch.save(module.state_dict(), path)
    rg.load_state_dict(model, path, prefix=prefix)
    as_theirs(model, module)


def test_into_an_imported_model(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, second = Tagger().eval(), Tagger().eval()
    layer = rg.from_torch(first, (draw(2, 5, 4),))
    torch.save(second.state_dict(), tmp_path / "second.pt")
    rg.load_state_dict(layer, tmp_path / "second.pt")
    close(np.asarray(rg.compile(layer)(draw(3, 4, 4).numpy())), second(draw(3, 4, 4)))


def state(**changes: Any) -> dict[str, Any]:
    found = {**Tagger().state_dict(), **changes}
    return {n: a for n, a in found.items() if a is not None}


@pytest.mark.parametrize(("given", "options", "match"), [
    ({"extra.weight": torch.zeros(3, 3)}, {}, "no layer takes 'extra'.*the model has the layers low"),
    ({"out.weight": None, "out.bias": None}, {}, "no module is left for layer 'dense'"),
    ({"out.weight": torch.zeros(3, 11)}, {}, "11"),
    ({"out.scale": torch.zeros(3)}, {}, "'scale' has no place in a Dense"),
    ({"norm.weight": torch.zeros(5)}, {}, "norm|gamma|shape"),
    ({}, {"prefix": "model."}, "no array has a name that begins with 'model.'"),
    ({}, {"names": {"dense": "head"}}, "names: 'head' is neither"),
    ({"out.bias": "text"}, {}, "out|bias|text|float"),
])
def test_what_does_not_fit(given: dict[str, Any], options: dict[str, Any], match: str) -> None:
    model = layers()
    rg.load_state_dict(model, Tagger().state_dict())
    before = {n: a.copy() for n, a in model.weights.items()}
    with pytest.raises(RnngraphError, match=f"(?s){match}"):
        rg.load_state_dict(model, state(**given), **options)
    assert all((before[n] == a).all() for n, a in model.weights.items())


def test_layers_of_another_number() -> None:
    with pytest.raises((ImportModelError, ConversionError), match="layer"):
        rg.load_state_dict(rg.Sequential([nn.Bidirectional(nn.LSTM(6, return_sequences=True)),
                                          nn.LayerNormalization(), nn.Dense(3)]), Tagger().state_dict())


def test_weights_of_other_layers_are_named() -> None:
    model = rg.Sequential([rg.Input((2, 4)), nn.PReLU(), nn.Dense(3)])
    with pytest.raises(ImportModelError, match="weights of PReLU have no counterpart"):
        rg.load_state_dict(model, {"weight": np.zeros((3, 4), np.float32)})
