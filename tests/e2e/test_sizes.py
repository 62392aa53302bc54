"""Models whose sizes are computed from their inputs' sizes, through compile(), against the float64 reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.backends.llvm.kernel import NativeKernel
from rnngraph.errors import InputError, StreamError, TraceError
from rnngraph.ir import Array, Graph, Shape, dims, evaluate
from rnngraph.nn import LSTM, Input, Layer, Tensor, ops
from rnngraph.nn.trace import trace

RNG = np.random.default_rng(0)
Body: TypeAlias = "Callable[[Model, Tensor], Tensor]"


class Model(Layer):
    """``body(model, x)`` with an LSTM of 4 units and a weight ``w`` at hand."""

    def __init__(self, body: Body, shape: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        self.body, self.w_shape = body, shape

    def setup(self, shape: Shape) -> None:
        self.w = self.add_weight("w", self.w_shape)
        self.layer = LSTM(4, return_sequences=True)

    def lstm(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        assert isinstance(y, Tensor)
        return y

    def call(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def one(outputs: Array | tuple[Array, ...]) -> Array:
    assert not isinstance(outputs, tuple)
    return outputs


def agree(layer: Layer, spec: Input, *arrays: Array, rtol: float, native: bool = True) -> Graph:
    """Compiled as the float64 reference, on arrays of several sizes, by one program; natively, where it must be."""
    compiled = rg.compile(layer, spec, verify="numeric")
    graph = trace(layer, spec)
    for x in arrays:
        want = evaluate(graph, {"x": x}, float64=True)["y"]
        got = one(compiled(x))
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * max(1.0, float(np.abs(want).max(initial=0))))
    backends = {k.backend for k in compiled.report.kernels}
    assert not native or backends == {"llvm"}, backends
    return graph


def frames(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


SEQUENCES = (frames(2, 7, 3), frames(1, 2, 3), frames(3, 40, 3), frames(2, 7, 3))


@pytest.mark.parametrize(("body", "dim"), [
    (lambda m, x: m.lstm(x)[:, 1:], "time-1"),
    (lambda m, x: m.lstm(x[:, :-1]), "time-1"),
    (lambda m, x: m.lstm(x[:, ::2]), "(time+1)//2"),
    (lambda m, x: m.lstm(x)[:, 1::3] * 2.0, "(time+1)//3"),
    (lambda m, x: m.lstm(ops.concat([x, x[:, 1:]], 1)), "2*time-1"),
    (lambda m, x: ops.concat([m.lstm(x), ops.zeros_like(m.lstm(x)[:, :2])], 1), "time+2"),
    (lambda m, x: ops.tanh(ops.concat([x[:, 1:], x[:, :1], x * 2.0], axis=1)), "2*time"),
    (lambda m, x: m.lstm(x)[:, 1:] - m.lstm(x)[:, :-1], "time-1"),
    (lambda m, x: ops.reverse(m.lstm(x)[:, 1:], 1), "time-1"),
    (lambda m, x: m.lstm(ops.transpose(x[:, ::2], (1, 0, 2))), "batch"),
], ids=["behind", "before", "every second", "every third", "longer", "zeros behind", "thrice", "differences",
        "reversed", "rows for time"])
def test_slices_and_joins_of_time_run_natively(body: Body, dim: str) -> None:
    graph = agree(Model(body), Input(("batch", "time", 3)), *SEQUENCES, rtol=1e-5)
    assert graph.outputs[0].shape[1] == dim


@pytest.mark.parametrize("reduce", [ops.mean, ops.max, ops.sum])
def test_reductions_over_computed_axes(reduce: Callable[..., Tensor]) -> None:
    agree(Model(lambda m, x: reduce(m.lstm(x)[:, 1:], axis=1)), Input(("batch", "time", 3)), *SEQUENCES, rtol=1e-5,
          native=False)


def test_reshapes_that_join_batch_and_time() -> None:
    def body(m: Model, x: Tensor) -> Tensor:
        y = ops.tanh(ops.reshape(x, ("batch*time", 3)) @ m.w)
        return ops.reshape(y, ("batch", -1, 4))

    graph = agree(Model(body, (3, 4)), Input(("batch", "time", 3)), *SEQUENCES, rtol=1e-5)
    assert graph.outputs[0].shape == ("batch", "time", 4)


@pytest.mark.parametrize(("strides", "padding", "dim"), [
    (1, "same", "time"), (2, "same", "(time+1)//2"), (2, "valid", "(time-1)//2"), (3, 1, "(time+2)//3"),
])
def test_convolutions_over_time(strides: int, padding: str | int, dim: str) -> None:
    def body(m: Model, x: Tensor) -> Tensor:
        return m.lstm(ops.relu(ops.conv(x, m.w, strides=strides, padding=padding)))

    graph = agree(Model(body, (3, 3, 5)), Input(("batch", "time", 3)), frames(2, 7, 3), frames(1, 3, 3),
                  frames(2, 30, 3), rtol=1e-5)
    assert graph.outputs[0].shape[1] == dims.parse(dim)


def test_sizes_as_data() -> None:
    def body(m: Model, x: Tensor) -> Tensor:
        t = ops.arange(x.shape[1], "f32")
        return m.lstm(x) * ops.reshape(t / ops.size_of(x.shape[1], "f32"), (x.shape[1], 1))

    agree(Model(body), Input(("batch", "time", 3)), *SEQUENCES, rtol=1e-5)


def test_a_table_cut_to_the_time() -> None:
    """Learned positions: a slice of as many rows as there are steps; more than the table has is an error."""
    layer = Model(lambda m, x: x + m.w[: x.shape[1]], (50, 3))
    agree(layer, Input(("batch", "time", 3)), *SEQUENCES, rtol=1e-6)
    with pytest.raises(InputError, match="size 51 do not fit axis 0 of size 50"):
        rg.compile(layer, Input(("batch", "time", 3)))(frames(1, 51, 3))


def test_inputs_too_short_are_named() -> None:
    compiled = rg.compile(Model(lambda m, x: m.lstm(x)[:, 3:]), Input(("batch", "time", 3)))
    assert one(compiled(frames(2, 3, 3))).shape == (2, 0, 4)
    with pytest.raises(InputError, match="the size time-3 is -1 where time = 2; give longer inputs"):
        compiled(frames(2, 2, 3))
    cut = rg.compile(Model(lambda m, x: m.lstm(x)[:, :5]), Input(("batch", "time", 3)))
    with pytest.raises(InputError, match=r"slice: start 0, size 5 do not fit axis . of size 4"):
        cut(frames(2, 4, 3))


def test_computed_dims_of_inputs() -> None:
    class Two(Layer):
        def call(self, x: Tensor, y: Tensor) -> Tensor:
            return x[:, :1] + y[:, 1::2]

    compiled = rg.compile(Two(), [Input(("batch", "time"), name="x"), Input(("batch", "time*2 + 1"), name="y")])
    x, y = frames(2, 1), frames(2, 3)
    np.testing.assert_allclose(compiled(x, y), x + y[:, 1::2], rtol=1e-6)
    with pytest.raises(InputError, match=r"input 'y': dim 2\*time\+1 is 4, expected 3 for time = 1"):
        compiled(x, frames(2, 4))


@pytest.mark.parametrize(("body", "message"), [
    (lambda m, x: m.lstm(x)[:, 1:], "has the size time-1, and not one step for each of 'time'"),
    (lambda m, x: m.lstm(x[:, ::2]), "runs over .time.1.//2 steps, and not one step for each step of an input"),
    (lambda m, x: m.lstm(x) * ops.size_of("time", "f32"), "it numbers all steps, or reads how many there are"),
    (lambda m, x: ops.sum(m.lstm(ops.conv(x, m.w)), -1), "a conv of .* is not known to work step by step"),
])
def test_streams_say_what_mixes_steps(body: Body, message: str) -> None:
    compiled = rg.compile(Model(body, (3, 3, 3)), Input(("batch", "time", 3)))
    with pytest.raises(StreamError, match=message):
        compiled.stream()


def test_packed_rows_are_not_cut() -> None:
    packed = rg.data.pack_sequence([frames(4, 3), frames(6, 3)], enforce_sorted=False)
    compiled = rg.compile(Model(lambda m, x: m.lstm(x)[1:]), Input(("batch", "time", 3)))
    with pytest.raises(TraceError, match="expected ops that keep them, got slice along the batch"):
        compiled(packed)
    joined = rg.compile(Model(lambda m, x: ops.reshape(m.lstm(x), ("batch*time", 4))), Input(("batch", "time", 3)))
    with pytest.raises(TraceError, match=r"expected the batch as an axis of its own, got batch\*time"):
        joined(packed)


def test_states_of_a_computed_batch() -> None:
    def body(m: Model, x: Tensor) -> Tensor:
        return m.lstm(ops.reshape(ops.transpose(x, (0, 2, 1, 3)), ("2*batch", "time", 3)))

    layer = Model(body)
    compiled = rg.compile(layer, Input(("batch", "time", 2, 3)))
    x = frames(3, 5, 2, 3)
    want = evaluate(trace(layer, Input(("batch", "time", 2, 3))), {"x": x}, float64=True)["y"]
    np.testing.assert_allclose(one(compiled(x)), want, rtol=1e-5, atol=1e-5)
    session = compiled.stream(dims={"batch": 3})
    chunks = [one(session.feed(x[:, :2])), one(session.feed(x[:, 2:]))]
    np.testing.assert_allclose(np.concatenate(chunks, 1), want, rtol=1e-5, atol=1e-5)
    assert {n: a.shape for n, a in session.state.items()} == {"model/lstm.h": (6, 4), "model/lstm.c": (6, 4)}


def test_sizes_of_calls_do_not_mix() -> None:
    """A program keeps the sizes of the call before; plans are kept by the symbols' sizes."""
    compiled = rg.compile(Model(lambda m, x: m.lstm(x)[:, 1:]), Input(("batch", "time", 3)))
    inputs = [frames(2, 5, 3), frames(2, 9, 3), frames(3, 5, 3)]
    first = [one(compiled(x)) for x in inputs]
    for _ in range(2):
        for x, want in zip(inputs, first, strict=True):
            np.testing.assert_array_equal(one(compiled(x)), want)
    (step,) = compiled.program.steps
    assert isinstance(step.kernel, NativeKernel)
    assert len(step.kernel.plans) == 3


def test_a_computed_start_of_0_is_no_empty_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last five steps: with five of them the slice starts at 0, and the kernel runs all the same."""
    graph = """graph @g(%x: f32[time,4]) {
      %y = slice %x {axis = 0, start = "time-5", size = 5, step = 1} : f32[5,4]
      %z = tanh %y : f32[5,4]
      return z = %z
    }"""
    compiled = rg.compile(graph)
    assert {k.backend for k in compiled.report.kernels} == {"llvm"}
    calls: list[object] = []
    monkeypatch.setattr("rnngraph.runtime.program.evaluate", lambda *given: calls.append(given))
    for steps in (5, 7):
        x = np.random.default_rng(steps).standard_normal((steps, 4), dtype=np.float32)
        np.testing.assert_allclose(compiled(x), np.tanh(x[-5:]), rtol=0, atol=1e-6)
    assert not calls, "answered by the reference evaluation"
    with pytest.raises(InputError, match="time-5"):
        compiled(np.zeros((4, 4), np.float32))
