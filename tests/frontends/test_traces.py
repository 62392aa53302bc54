"""How often the walk over a foreign graph is done: once for a program, once more for each size that turns out equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import rnngraph as rg
from rnngraph.cli import main
from rnngraph.errors import InputError
from rnngraph.frontends.onnx.walker import Walker
from tests.frontends.onnx_graphs import info, model, runtime

X = np.random.default_rng(0).standard_normal((3, 4), np.float32)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The graphs that are walked."""
    found: list[str] = []
    run = Walker.run

    def counted(self: Walker, graph: Any, *rest: Any) -> Any:
        found.append(getattr(graph, "name", ""))
        return run(self, graph, *rest)

    monkeypatch.setattr(Walker, "run", counted)
    return found


def sums(*batches: int | str | None) -> onnx.ModelProto:
    """The sum of inputs whose batches have these names."""
    names = [f"x{i}" for i in range(len(batches))]
    nodes = [helper.make_node("Sum", names, ["s"]), helper.make_node("Tanh", ["s"], ["y"])]
    return model(nodes, [info(n, (b, 4)) for n, b in zip(names, batches, strict=True)], ["y"])


@pytest.mark.parametrize(("batches", "count"), [((3,), 1), (("b",), 1), (("b", "b"), 1), (("b", "c"), 2),
                                                ((None, None, None), 3)])
def test_walks_of_a_compile(walks: list[str], batches: tuple[int | str | None, ...], count: int) -> None:
    made = sums(*batches)
    compiled = rg.compile(made)
    assert len(walks) == count
    (want,) = runtime(made, dict.fromkeys(compiled.input_names, X))
    np.testing.assert_allclose(compiled(*[X] * len(batches)), want, rtol=0, atol=1e-6)
    compiled(*[X] * len(batches))
    assert len(walks) == count
    if len(batches) > 1:
        with pytest.raises(InputError):
            compiled(*[X] * (len(batches) - 1), X[:2])


@pytest.mark.parametrize("command", ["compile", "inspect", "export"])
def test_walks_of_the_command_line(walks: list[str], tmp_path: Path, command: str) -> None:
    onnx.save(sums("time", "batch"), tmp_path / "m.onnx")
    out = [str(tmp_path / "again.onnx")] if command == "export" else []
    assert main([command, str(tmp_path / "m.onnx"), *out]) == 0
    assert len(walks) == 2


def test_a_layer_has_one_name_for_equal_sizes(walks: list[str]) -> None:
    layer = rg.from_onnx(sums("b", "c"))
    assert [x.shape for x in layer.inputs] == [("b", 4), ("b", 4)] or [x.shape for x in layer.inputs] == [("c", 4)] * 2
    walks.clear()
    rg.trace(layer)
    assert len(walks) == 1


def test_a_program_for_each_value_is_one_walk_each(walks: list[str]) -> None:
    made = model([helper.make_node("Reshape", ["x", "to"], ["y"])],
                 [info("x", (3, 4)), info("to", (2,), "i64")], [info("y", (None, None))])
    compiled = rg.compile(made)
    assert len(walks) == 1, "which finds that a value must be known"
    for to in ((4, 3), (12, 1), (4, 3), (12, 1)):
        np.testing.assert_array_equal(compiled(X, np.array(to)), X.reshape(to))
    assert len(walks) == 3
