"""Writes the models of this folder and what TensorFlow gives for their inputs: tensorflow, tf_keras and tf2onnx needed.

    python -m tests.data.tf2onnx.make_models
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from keras import layers
from tf_keras.src.layers.rnn import legacy_cells as cells

HERE = Path(__file__).resolve().parent
WIDTH, HIDDEN = 3, 4


class MinimalGatedUnit(layers.Layer):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = self.state_size = self.output_size = units

    def build(self, shape: Any) -> None:
        self.k = self.add_weight(shape=(shape[-1], 2 * self.units))
        self.r = self.add_weight(shape=(self.units, 2 * self.units))

    def call(self, x: Any, states: Any) -> Any:
        (h,), n = states, self.units
        a = x @ self.k
        f = tf.sigmoid(a[:, :n] + h @ self.r[:, :n])
        h = (1 - f) * h + f * tf.tanh(a[:, n:] + (f * h) @ self.r[:, n:])
        return h, [h]


class JoinedLSTM(layers.Layer):
    """One weight for [x, h], gates i, g, f, o, and a forget bias of 1 in the step."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = self.output_size = units
        self.state_size = [units, units]

    def build(self, shape: Any) -> None:
        self.k = self.add_weight(shape=(shape[-1] + self.units, 4 * self.units))
        self.b = self.add_weight(shape=(4 * self.units,))

    def call(self, x: Any, states: Any) -> Any:
        c, h = states
        i, g, f, o = tf.split(tf.concat([x, h], 1) @ self.k + self.b, 4, axis=1)
        c = c * tf.sigmoid(f + 1.0) + tf.sigmoid(i) * tf.tanh(g)
        h = tf.tanh(c) * tf.sigmoid(o)
        return h, [c, h]


class PeepholeLSTM(layers.Layer):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = self.output_size = units
        self.state_size = [units, units]

    def build(self, shape: Any) -> None:
        self.k = self.add_weight(shape=(shape[-1], 4 * self.units))
        self.r = self.add_weight(shape=(self.units, 4 * self.units))
        self.p = [self.add_weight(shape=(self.units,)) for _ in range(3)]

    def call(self, x: Any, states: Any) -> Any:
        h, c = states
        i, f, g, o = tf.split(x @ self.k + h @ self.r, 4, axis=1)
        c = tf.sigmoid(f + c * self.p[1]) * c + tf.sigmoid(i + c * self.p[0]) * tf.tanh(g)
        h = tf.sigmoid(o + c * self.p[2]) * tf.tanh(c)
        return h, [h, c]


def stack(*made: layers.Layer, shape: tuple[int | None, ...] = (None, WIDTH), batch: int | None = None) -> Any:
    return keras.Sequential([layers.Input(shape, batch_size=batch), *made])


def with_states() -> Any:
    x, h = layers.Input((None, WIDTH)), layers.Input((HIDDEN,))
    return keras.Model([x, h], layers.SimpleRNN(HIDDEN, return_sequences=True, return_state=True)(x, initial_state=h))


def seq2seq() -> Any:
    x, y = layers.Input((None, WIDTH)), layers.Input((None, 2))
    _, h, c = layers.LSTM(HIDDEN, return_state=True)(x)
    out = layers.LSTM(HIDDEN, return_sequences=True)(y, initial_state=[h, c])
    return keras.Model([x, y], layers.Dense(3, activation="softmax")(out))


SEQUENCE: dict[str, Any] = {"return_sequences": True}
KERAS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "lstm_seq": (lambda: stack(layers.LSTM(HIDDEN, **SEQUENCE)), (9, 18)),
    "gru_seq": (lambda: stack(layers.GRU(HIDDEN, **SEQUENCE)), (9,)),
    "rnn_seq": (lambda: stack(layers.SimpleRNN(HIDDEN, **SEQUENCE)), (9,)),
    "bi_lstm_seq": (lambda: stack(layers.Bidirectional(layers.LSTM(HIDDEN, **SEQUENCE))), (11,)),
    "mask_gru_seq": (lambda: stack(layers.Masking(0.0), layers.GRU(HIDDEN, **SEQUENCE)), (11,)),
    "cell_xh_seq": (lambda: stack(layers.RNN(JoinedLSTM(HIDDEN), **SEQUENCE)), (11,)),
    "gru_before_seq": (lambda: stack(layers.GRU(HIDDEN, reset_after=False, **SEQUENCE)), (12,)),
    "lstm_hard_seq": (
        lambda: stack(layers.LSTM(HIDDEN, recurrent_activation="hard_sigmoid", **SEQUENCE)), (12,)),
    "stack_lstm_seq": (lambda: stack(layers.LSTM(HIDDEN, **SEQUENCE), layers.LSTM(HIDDEN, **SEQUENCE)), (13,)),
    "emb_mask_gru": (
        lambda: stack(layers.Embedding(9, WIDTH, mask_zero=True), layers.GRU(HIDDEN), shape=(None,)), (13,)),
    "seq2seq": (seq2seq, (13,)),
    "one_lstm_seq": (lambda: stack(layers.LSTM(HIDDEN, **SEQUENCE), batch=1), (15,)),
    "bi_gru_seq": (lambda: stack(layers.Bidirectional(layers.GRU(HIDDEN, **SEQUENCE))), (17,)),
    "mask_lstm_seq": (lambda: stack(layers.Masking(0.0), layers.LSTM(HIDDEN, **SEQUENCE)), (17,)),
    "states_rnn": (with_states, (17,)),
    "stack_gru_seq": (lambda: stack(layers.GRU(HIDDEN, **SEQUENCE), layers.GRU(HIDDEN, **SEQUENCE)), (18,)),
    "cell_minimal_seq": (lambda: stack(layers.RNN(MinimalGatedUnit(HIDDEN), **SEQUENCE)), (18,)),
    "cell_peephole_seq": (lambda: stack(layers.RNN(PeepholeLSTM(HIDDEN), **SEQUENCE)), (18,)),
    "td_dense": (lambda: stack(layers.GRU(HIDDEN, recurrent_activation="hard_sigmoid", **SEQUENCE),
                               layers.TimeDistributed(layers.Dense(2))), (18,)),
    "unroll_lstm_seq": (lambda: stack(layers.LSTM(HIDDEN, unroll=True, **SEQUENCE), shape=(5, WIDTH)), (18,)),
    "stateful_lstm_seq": (lambda: stack(layers.LSTM(HIDDEN, stateful=True, **SEQUENCE), batch=3), (18,)),
}


def lstm_cell() -> Any:
    return cells.LSTMCell(HIDDEN)


v1 = tf.compat.v1.nn
DYNAMIC: dict[str, Callable[[Any, Any], Any]] = {  # of x and lengths
    "dyn_lstm": lambda x, n: v1.dynamic_rnn(lstm_cell(), x, dtype=tf.float32),
    "dyn_proj": lambda x, n: v1.dynamic_rnn(cells.LSTMCell(HIDDEN, num_proj=2), x, dtype=tf.float32),
    "dynlen_gru": lambda x, n: v1.dynamic_rnn(cells.GRUCell(HIDDEN), x, sequence_length=n, dtype=tf.float32),
    "bidynlen_lstm": lambda x, n: v1.bidirectional_dynamic_rnn(lstm_cell(), lstm_cell(), x, sequence_length=n,
                                                               dtype=tf.float32),
}


def random(rng: np.random.Generator, *shape: int) -> Any:
    return (0.5 * rng.standard_normal(shape)).astype(np.float32)


RNG = np.random.default_rng(5)
K, R, B = random(RNG, WIDTH, 4 * HIDDEN), random(RNG, HIDDEN, 4 * HIDDEN), random(RNG, 4 * HIDDEN)
W = random(RNG, WIDTH + HIDDEN, HIDDEN)


def rnn(x: Any, h: Any) -> Any:
    return tf.tanh(tf.concat([x, h], 1) @ W)


def zeros(x: Any) -> Any:
    return tf.zeros([tf.shape(x)[0], HIDDEN])


def while_array(x: Any) -> Any:
    steps, xs = tf.shape(x)[1], tf.transpose(x, [1, 0, 2])

    def body(t: Any, h: Any, c: Any, ys: Any) -> Any:
        i, f, g, o = tf.split(xs[t] @ K + h @ R + B, 4, 1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
        return t + 1, h, c, ys.write(t, h)

    start = (0, zeros(x), zeros(x), tf.TensorArray(tf.float32, steps))
    _, h, c, ys = tf.while_loop(lambda t, *_: t < steps, body, start)
    return tf.transpose(ys.stack(), [1, 0, 2]), h, c


def while_concat(x: Any) -> Any:
    steps, h0 = tf.shape(x)[1], zeros(x)

    def body(t: Any, h: Any, ys: Any) -> Any:
        h = rnn(x[:, t], h)
        return t + 1, h, tf.concat([ys, h[:, None]], 1)

    shapes = (tf.TensorShape([]), tf.TensorShape([None, HIDDEN]), tf.TensorShape([None, None, HIDDEN]))
    start = (0, h0, h0[:, None][:, :0])
    return tf.while_loop(lambda t, *_: t < steps, body, start, shape_invariants=shapes)[2]


def while_scatter(x: Any) -> Any:
    steps, xs = tf.shape(x)[1], tf.transpose(x, [1, 0, 2])

    def body(t: Any, h: Any, ys: Any) -> Any:
        h = rnn(xs[t], h)
        return t + 1, h, tf.tensor_scatter_nd_update(ys, [[t]], h[None])

    start = (0, zeros(x), tf.zeros([steps, tf.shape(x)[0], HIDDEN]))
    return tf.transpose(tf.while_loop(lambda t, *_: t < steps, body, start)[2], [1, 0, 2])


def scan_fn(x: Any) -> Any:
    xs = tf.transpose(x, [1, 0, 2])
    return tf.transpose(tf.scan(lambda h, xt: rnn(xt, h), xs, zeros(x)), [1, 0, 2])


def save(name: str, inputs: dict[str, Any], outputs: list[Any]) -> None:
    arrays = {**{f"in_{k}": v for k, v in inputs.items()}, **{f"out_{i}": np.asarray(v) for i, v in enumerate(outputs)}}
    np.savez(HERE / f"{name}.npz", **arrays)


def write_function(name: str, call: Callable[..., Any], signature: list[Any], xs: list[Any], opsets: tuple[int, ...],
                   before: Callable[[], None] = lambda: None) -> None:
    function = tf.function(call, input_signature=signature)
    before()
    outputs = tf.nest.flatten(function(*xs))
    save(name, {s.name: x for s, x in zip(signature, xs, strict=True)}, outputs)
    before()
    for opset in opsets:
        tf2onnx.convert.from_function(function, input_signature=signature, opset=opset,
                                      output_path=str(HERE / f"{name}.{opset}.onnx"))


def data(shape: tuple[int | None, ...], dtype: str, masked: bool, rng: np.random.Generator) -> Any:
    size = [({0: 3, 1: 6}.get(i, 5) if d is None else d) for i, d in enumerate(shape)]
    if "int" in dtype or (len(size) == 2 and size[1] == 6):
        ids = rng.integers(1, 9, size).astype(dtype)
        ids[0, -2:] = 0
        return ids
    x = rng.standard_normal(size).astype(np.float32)
    if masked:
        x[0, -2:], x[-1, -3:], x[1, 2] = 0, 0, 0
    return x


def write_keras(name: str, make: Callable[[], Any], opsets: tuple[int, ...]) -> None:
    rng, model = np.random.default_rng(sum(map(ord, name))), make()
    model.set_weights([random(rng, *w.shape) if w.dtype.kind == "f" else w for w in model.get_weights()])
    signature = [tf.TensorSpec(i.shape, i.dtype, name=f"x{k}") for k, i in enumerate(model.inputs)]
    xs = [data(i.shape, str(i.dtype), "mask" in name, rng) for i in model.inputs]

    def reset() -> None:
        for layer in model.layers:
            if getattr(layer, "stateful", False):
                layer.reset_state()

    def call(*given: Any) -> Any:
        return tf.nest.flatten(model(list(given) if len(given) > 1 else given[0]))

    write_function(name, call, signature, xs, opsets, reset)


def write_dynamic(name: str, make: Callable[[Any, Any], Any]) -> None:
    """A frozen graph with the control flow of TensorFlow 1."""
    rng, graph = np.random.default_rng(sum(map(ord, name))), tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        x = tf.compat.v1.placeholder(tf.float32, (None, None, WIDTH), "x")
        lengths = tf.compat.v1.placeholder(tf.int32, (None,), "l")
        outs = [tf.identity(o, f"out{i}") for i, o in enumerate(tf.nest.flatten(make(x, lengths)))]
        for v in tf.compat.v1.global_variables():
            session.run(tf.compat.v1.assign(v, random(rng, *v.shape)))
        feed = {"x:0": rng.standard_normal((3, 6, WIDTH)).astype(np.float32)}
        if "len" in name:
            feed["l:0"] = np.array([6, 2, 4], np.int32)
        save(name, feed, session.run(outs, feed))
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), [o.op.name for o in outs])
    tf2onnx.convert.from_graph_def(frozen, input_names=list(feed), output_names=[o.name for o in outs], opset=15,
                                   output_path=str(HERE / f"{name}.15.onnx"))


if __name__ == "__main__":
    for name, (make, opsets) in KERAS.items():
        write_keras(name, make, opsets)
    x = np.random.default_rng(1).standard_normal((3, 6, WIDTH)).astype(np.float32)
    for call in (while_array, while_concat, while_scatter, scan_fn):
        write_function(call.__name__, call, [tf.TensorSpec((None, None, WIDTH), tf.float32, name="x")], [x], (15,))
    tf.compat.v1.disable_control_flow_v2()
    for name, build in DYNAMIC.items():
        write_dynamic(name, build)
