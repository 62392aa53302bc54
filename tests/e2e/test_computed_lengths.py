"""Row lengths that the model computes: native loops take them, and check them before they run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import InputError
from rnngraph.ir import Array, evaluate, parse
from rnngraph.nn import GRU, LSTM, Input, Layer, LSTMCell, Tensor, ops
from rnngraph.nn.trace import trace

RNG = np.random.default_rng(0)
X, N = Input(("batch", "time", 3)), Input(("batch",), "i32", name="n")


class Encoder(Layer):
    """Frames two by two, then a layer over half as many steps; the lengths are halved as well."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def call(self, x: Tensor, n: Tensor) -> Tensor:
        pairs = ops.reshape(x[:, : ops_even(x)], ("batch", "time//2", 6))
        y = self.layer(pairs, mask=ops.sequence_mask(n / 2, "time//2"))
        assert isinstance(y, Tensor)
        return y


def ops_even(x: Tensor) -> str:
    return f"{x.shape[1]}//2*2"


def kinds(compiled: rg.CompiledModel) -> dict[str, str]:
    """The implementation of each op, by its name."""
    return {op.name: op.impl for op in compiled.program.graph.block.ops}


@pytest.mark.parametrize("layer", [lambda: LSTM(4, return_sequences=True), lambda: GRU(5),
                                   lambda: rg.nn.Bidirectional(LSTM(3, return_sequences=True)),
                                   lambda: LSTM(4, return_sequences=True, go_backwards=True)])
def test_lengths_of_a_subsampled_sequence(layer: Callable[[], Layer]) -> None:
    model = Encoder(layer())
    compiled, graph = rg.compile(model, [X, N]), trace(model, [X, N])
    for batch, time in ((3, 8), (1, 3), (2, 21)):
        x = RNG.standard_normal((batch, time, 3)).astype(np.float32)
        n = RNG.integers(0, time + 1, batch).astype(np.int32)
        want = evaluate(graph, {"x": x, "n": n}, float64=True)["y"]
        got = compiled(x, n)
        assert isinstance(got, np.ndarray)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert "llvm.scan" in kinds(compiled).values()
    assert "reference.op" not in kinds(compiled).values()


class Valid(Layer):
    """An unrolled cell with ``valid_length`` as the model computes it, unchecked."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = LSTMCell(4)

    def call(self, x: Tensor, n: Tensor) -> Tensor:
        y, _ = self.cell.unroll(None, x, valid_length=n - 1)
        assert isinstance(y, Tensor)
        return y


@pytest.mark.parametrize("n", [[0, 3], [3, 8]])
def test_lengths_out_of_range_are_named_before_anything_runs(n: list[int]) -> None:
    compiled = rg.compile(Valid(), [X, N])
    assert "llvm.scan" in kinds(compiled).values()
    x = np.ones((2, 6, 3), np.float32)
    first = compiled(x, np.array([3, 7], np.int32))
    with pytest.raises(InputError, match=rf"lengths must be in 0\.\.6 \(the number of steps\), got {n[0] - 1}"):
        compiled(x, np.array(n, np.int32))
    np.testing.assert_array_equal(np.asarray(compiled(x, np.array([3, 7], np.int32))), np.asarray(first))


def scan_text(lengths: str) -> str:
    return f"""graph @g(%x: f32[T,2,4]) {{
      {lengths}
      %zero = const splat(0.0) : f32[]
      %h0 = broadcast %zero {{shape = [2, 4], axes = []}} : f32[2,4]
      %h, %y = scan carry(h = %h0) over(x = %x) lengths(%n) {{steps = T}} {{
      ^(%c: f32[2,4], %xt: f32[2,4]):
        %a = add %c, %xt : f32[2,4]
        yield carry(h = %a) emit(y = %a)
      }} : f32[2,4], f32[T,2,4]
      return y = %y, h = %h
    }}"""


@pytest.mark.parametrize("lengths", ["%n = const [1, 3] : i64[2]", "%m = const [0.5, 2.5] : f32[2] "
                                     "%s = reduce_sum %x {axes = [0, 2]} : f32[2] %d = gt %s, %m : bool[2] "
                                     "%n = cast %d {dtype = i32} : i32[2]"])
def test_constant_lengths_and_lengths_behind_native_code(lengths: str) -> None:
    graph = parse(scan_text(lengths))
    compiled = rg.compile(graph)
    assert kinds(compiled)["scan"] == "llvm.scan"
    for time in (3, 9):
        x = RNG.standard_normal((time, 2, 4)).astype(np.float32)
        want = evaluate(graph, {"x": x}, float64=True)
        got = compiled(x)
        for name, array in zip(("y", "h"), got, strict=True):
            np.testing.assert_allclose(array, want[name], rtol=1e-5, atol=1e-5)


def test_constant_lengths_that_do_not_fit() -> None:
    compiled = rg.compile(parse(scan_text("%n = const [1, 3] : i64[2]")))
    with pytest.raises(InputError, match=r"lengths must be in 0\.\.2 \(the number of steps\), got 1\.\.3"):
        compiled(np.ones((2, 2, 4), np.float32))


def test_masks_of_computed_lengths_are_those_of_numpy() -> None:
    class Mask(Layer):
        def call(self, x: Tensor, n: Tensor) -> Tensor:
            return ops.cast(ops.sequence_mask(n * 2, x.shape[1]), "f32")

    def run(n: list[int]) -> Array:
        got = rg.compile(Mask(), [X, N])(np.zeros((2, 5, 3), np.float32), np.array(n, np.int32))
        assert isinstance(got, np.ndarray)
        return got

    np.testing.assert_array_equal(run([1, 4]), np.arange(5) < np.array([[2], [8]]))
