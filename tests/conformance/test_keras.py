"""Keras's own tests of its recurrent layers, from the installed wheel, run on ours.

A test module is executed as it stands, but ``layers`` and ``initializers`` in it are adapters: a layer of ours that is
compiled at its first call and called with numpy arrays. Tests that do not apply are listed, each with its reason, in
docs/conformance.md; all others must pass.
"""

from __future__ import annotations

import importlib.util
import os
import re
import types
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import rnngraph as rg
from rnngraph import nn
from rnngraph.nn.initializers import Constant

FILES = ("lstm", "gru", "simple_rnn", "rnn", "bidirectional", "stacked_rnn_cells", "time_distributed")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
DROPPED = ("implementation", "seed")  # how Keras computes, and draws dropout: no matter here


class Eager:
    """A layer of ours, called like one of Keras: on arrays, weights made by the first call."""

    def __init__(self, layer: nn.Layer) -> None:
        self.layer = layer
        self.compiled: dict[tuple[Any, ...], rg.CompiledModel] = {}

    def __call__(self, sequence: Any, initial_state: Any = None, mask: Any = None) -> Any:
        x = np.asarray(sequence, np.float32)
        first = [] if initial_state is None else initial_state if isinstance(initial_state, list) else [initial_state]
        key = (x.shape, len(first))
        if key not in self.compiled:
            given = rg.Input((len(x), *x.shape[1:]))
            states = [rg.Input(np.shape(s), name=f"s{k}") for k, s in enumerate(first)]
            out = self.layer(given, initial_state=states) if states else self.layer(given)
            model = nn.Model([given, *states], list(out) if isinstance(out, tuple) else out)
            self.compiled[key] = rg.compile(model)
        result = self.compiled[key](x, *(np.asarray(s, np.float32) for s in first), mask=mask)
        return list(result) if isinstance(result, tuple) else result

    def reset_state(self) -> None:
        for compiled in self.compiled.values():
            compiled.reset_states()


class OneStateRNNCell(nn.Cell):
    """The cell of these tests, as a cell of ours: its Keras class computes with Keras's ops."""

    def __init__(self, units: int, state_size: int | None = None) -> None:
        super().__init__(units)

    def build(self, n: int) -> None:
        self.kernel = self.add_weight("kernel", (n, self.state_size), "ones")
        self.recurrent = self.add_weight("recurrent_kernel", (self.state_size, self.state_size), "ones")

    def step(self, x: nn.Tensor, h: nn.Tensor) -> tuple[nn.Tensor, nn.Tensor]:
        y = x @ self.kernel + h @ self.recurrent
        return y, y


class TwoStatesRNNCell(nn.Cell):
    """The other one: two states, of which the output is the sum."""

    def __init__(self, units: int, state_size: Any = None) -> None:
        super().__init__((units, units))
        self.units = units

    def build(self, n: int) -> None:
        u = self.units
        self.kernel = self.add_weight("kernel", (n, u), "ones")
        self.recurrent_1 = self.add_weight("recurrent_kernel_1", (u, u), "ones")
        self.recurrent_2 = self.add_weight("recurrent_kernel_2", (u, u), "ones")

    def step(self, x: nn.Tensor, state: tuple[nn.Tensor, nn.Tensor]) -> tuple[nn.Tensor, Any]:
        h = x @ self.kernel
        a, b = h + state[0] @ self.recurrent_1, h + state[0] @ self.recurrent_2  # the first state twice: Keras's own
        return a + b, (a, b)


def own(value: Any) -> Any:
    """What the tests give to a constructor, as ours takes it."""
    if isinstance(value, Eager):
        return value.layer
    return [own(v) for v in value] if isinstance(value, list) else value


def adapted(make: Any) -> Any:
    def construct(*args: Any, **kwargs: Any) -> Any:
        options = {k: own(v) for k, v in kwargs.items() if k not in DROPPED}
        made = make(*map(own, args), **options)
        return Eager(made) if isinstance(made, nn.Layer) else made

    return construct


LAYERS = types.SimpleNamespace(
    Layer=object, StackedRNNCells=adapted(nn.StackedCells),
    **{name: adapted(getattr(nn, name)) for name in ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "LSTMCell",
                                                     "GRUCell", "SimpleRNNCell", "Dense", "Masking",
                                                     "TimeDistributed")})
INITIALIZERS = types.SimpleNamespace(Constant=Constant)


def excluded() -> dict[str, str]:
    """The table of docs/conformance.md: test -> why it does not apply."""
    rows = re.findall(r"^\| `(\w+\.\w+)` \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    assert len({name for name, _ in rows}) == len(rows)
    return dict(rows)


def cases(file: str) -> Iterator[tuple[str, unittest.TestCase]]:
    """The tests of a module of the wheel, by name, on our layers."""
    folder = importlib.util.find_spec("keras")
    assert folder is not None
    assert folder.origin is not None
    path = Path(folder.origin).parent / "src" / "layers" / "rnn" / f"{file}_test.py"
    module = types.ModuleType(f"keras_{file}_test")
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    module.__dict__.update(layers=LAYERS, initializers=INITIALIZERS)
    module.__dict__.update({c.__name__: c for c in (OneStateRNNCell, TwoStatesRNNCell) if c.__name__ in vars(module)})
    for item in list(vars(module).values()):
        if isinstance(item, type) and issubclass(item, unittest.TestCase) and item.__module__ == module.__name__:
            for test in unittest.defaultTestLoader.loadTestsFromTestCase(item):
                assert isinstance(test, unittest.TestCase)
                yield f"{file}.{test._testMethodName}", test


CASES = [(name, test) for file in FILES for name, test in cases(file) if not name.endswith("test_session")]
REASONS = excluded()


def plain(name: str) -> str:
    """Without the number that absl gives to each set of parameters."""
    return re.sub(r"\d+$", "", name) if re.search(r"[a-z_]\d$", name) else name


APPLY = [(name, test) for name, test in CASES if plain(name) not in REASONS]


@pytest.mark.parametrize("test", [t for _, t in APPLY], ids=[n for n, _ in APPLY])
@pytest.mark.filterwarnings("ignore")
def test_keras(test: unittest.TestCase) -> None:
    outcome = unittest.TestResult()
    test.run(outcome)
    assert not outcome.skipped, outcome.skipped
    assert outcome.wasSuccessful(), "".join(text for _, text in (*outcome.failures, *outcome.errors))


def test_the_table_lists_tests_that_there_are() -> None:
    assert REASONS
    assert set(REASONS) <= {plain(name) for name, _ in CASES}
    assert all(len(reason) > 20 for reason in REASONS.values())
    assert len(APPLY) >= 12
