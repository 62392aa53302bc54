"""Every Keras layer that is read, in a model of its own: our outputs are Keras's, from memory and from both formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from tests.frontends.keras_support import check, compare, keras, randomized

L = keras.layers
SEQ, IMAGE, VECTOR = (None, 5), (7, 6, 4), (5,)

ONE_INPUT: dict[str, tuple[tuple[int | None, ...], Any]] = {
    "lstm": (SEQ, lambda: L.LSTM(4)),
    "lstm sequences": (SEQ, lambda: L.LSTM(4, return_sequences=True)),
    "lstm state": (SEQ, lambda: L.LSTM(4, return_state=True)),
    "lstm backwards": (SEQ, lambda: L.LSTM(4, return_sequences=True, go_backwards=True)),
    "lstm hard": (SEQ, lambda: L.LSTM(4, activation="relu", recurrent_activation="hard_sigmoid")),
    "lstm no bias": (SEQ, lambda: L.LSTM(4, use_bias=False)),
    "lstm unroll": ((5, 5), lambda: L.LSTM(4, unroll=True)),
    "gru": (SEQ, lambda: L.GRU(4, return_sequences=True)),
    "gru before": (SEQ, lambda: L.GRU(4, reset_after=False)),
    "gru no bias": (SEQ, lambda: L.GRU(4, use_bias=False)),
    "simple rnn": (SEQ, lambda: L.SimpleRNN(4, activation="relu")),
    "rnn of a cell": (SEQ, lambda: L.RNN(L.GRUCell(4), return_sequences=True)),
    "rnn of cells": (SEQ, lambda: L.RNN([L.LSTMCell(4), L.LSTMCell(3), L.GRUCell(2)])),
    "stacked cells": (SEQ, lambda: L.RNN(L.StackedRNNCells([L.SimpleRNNCell(4), L.LSTMCell(3)]), return_state=True)),
    **{f"bidirectional {mode}": (SEQ, lambda mode=mode: L.Bidirectional(L.LSTM(4, return_sequences=True),
                                                                         merge_mode=mode))
       for mode in ("concat", "sum", "mul", "ave", None)},
    "bidirectional last": (SEQ, lambda: L.Bidirectional(L.GRU(4), name="bi d")),
    "bidirectional state": (SEQ, lambda: L.Bidirectional(L.LSTM(4, return_state=True))),
    "backward layer": (SEQ, lambda: L.Bidirectional(L.LSTM(4, return_sequences=True), backward_layer=L.GRU(
        3, return_sequences=True, go_backwards=True))),
    "time distributed": (SEQ, lambda: L.TimeDistributed(L.Dense(3, activation="elu"))),
    "time distributed conv": ((4, 7, 3), lambda: L.TimeDistributed(L.Conv1D(3, 2))),
    "time distributed model": (SEQ, lambda: L.TimeDistributed(keras.Sequential([keras.Input((5,)), L.Dense(3),
                                                                                L.BatchNormalization()]))),
    "conv lstm 1d": ((4, 6, 2), lambda: L.ConvLSTM1D(3, 3, padding="same", return_sequences=True)),
    "conv lstm 2d": ((3, 5, 5, 2), lambda: L.ConvLSTM2D(2, 3)),
    "conv1d": (SEQ, lambda: L.Conv1D(4, 3, activation="relu")),
    "conv1d same": (SEQ, lambda: L.Conv1D(4, 4, padding="same")),
    "conv1d causal": (SEQ, lambda: L.Conv1D(4, 3, padding="causal", dilation_rate=2)),
    "conv1d strides": ((9, 5), lambda: L.Conv1D(4, 3, padding="same", strides=2)),
    "conv1d open strides": (SEQ, lambda: L.Conv1D(4, 3, padding="same", strides=2)),
    "conv2d": (IMAGE, lambda: L.Conv2D(3, (3, 2), strides=(2, 1), padding="same")),
    "conv2d groups": (IMAGE, lambda: L.Conv2D(6, 3, groups=2, use_bias=False)),
    "conv3d": ((4, 4, 5, 2), lambda: L.Conv3D(3, 2)),
    "separable conv1d": (SEQ, lambda: L.SeparableConv1D(4, 3, depth_multiplier=2)),
    "separable conv2d": (IMAGE, lambda: L.SeparableConv2D(4, 3, padding="same")),
    "depthwise conv1d": (SEQ, lambda: L.DepthwiseConv1D(3, depth_multiplier=2)),
    "depthwise conv2d": (IMAGE, lambda: L.DepthwiseConv2D(3, padding="same", activation="tanh")),
    "conv1d transpose": (SEQ, lambda: L.Conv1DTranspose(4, 3, strides=2)),
    "conv1d transpose same": (SEQ, lambda: L.Conv1DTranspose(4, 4, strides=2, padding="same")),
    "conv2d transpose": (IMAGE, lambda: L.Conv2DTranspose(3, 2, strides=3)),
    "max pooling1d": (SEQ, lambda: L.MaxPooling1D(2)),
    "max pooling1d same": ((7, 5), lambda: L.MaxPooling1D(3, strides=2, padding="same")),
    "max pooling2d": (IMAGE, lambda: L.MaxPooling2D(2, padding="same")),
    "average pooling1d": (SEQ, lambda: L.AveragePooling1D(3, strides=1)),
    "average pooling2d": (IMAGE, lambda: L.AveragePooling2D(3, strides=1, padding="same")),
    "global max": (SEQ, lambda: L.GlobalMaxPooling1D()),
    "global average": (SEQ, lambda: L.GlobalAveragePooling1D(keepdims=True)),
    "global average2d": (IMAGE, lambda: L.GlobalAveragePooling2D()),
    "global max2d": (IMAGE, lambda: L.GlobalMaxPooling2D(keepdims=True)),
    "batch normalization": (SEQ, lambda: L.BatchNormalization(epsilon=1e-2)),
    "batch normalization plain": (IMAGE, lambda: L.BatchNormalization(axis=2, scale=False, center=False)),
    "layer normalization": (SEQ, lambda: L.LayerNormalization()),
    "layer normalization plain": (IMAGE, lambda: L.LayerNormalization(center=False)),
    "layer normalization axes": ((4, 5), lambda: L.LayerNormalization(axis=(-2, -1))),
    "group normalization": (IMAGE, lambda: L.GroupNormalization(2)),
    "rms normalization": (SEQ, lambda: L.RMSNormalization()),
    "unit normalization": (SEQ, lambda: L.UnitNormalization()),
    "rescaling": (SEQ, lambda: L.Rescaling(0.5, 2.0)),
    "normalization": (SEQ, lambda: L.Normalization(mean=[1.0, 2.0, 3.0, 4.0, 5.0], variance=[1.0, 2.0, 0.5, 1.0, 4.0])),
    "flatten": (IMAGE, lambda: L.Flatten()),
    "reshape": (IMAGE, lambda: L.Reshape((-1, 4, 2))),
    "permute": (IMAGE, lambda: L.Permute((3, 1, 2))),
    "repeat vector": (VECTOR, lambda: L.RepeatVector(4)),
    "zero padding1d": (SEQ, lambda: L.ZeroPadding1D((2, 1))),
    "zero padding2d": (IMAGE, lambda: L.ZeroPadding2D(((1, 2), (0, 3)))),
    "cropping1d": (SEQ, lambda: L.Cropping1D(1)),
    "cropping2d": (IMAGE, lambda: L.Cropping2D(((1, 2), (0, 3)))),
    "up sampling1d": (SEQ, lambda: L.UpSampling1D(3)),
    "up sampling2d": (IMAGE, lambda: L.UpSampling2D((2, 3))),
    "relu": (SEQ, lambda: L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2)),
    "leaky relu": (SEQ, lambda: L.LeakyReLU(negative_slope=0.2)),
    "prelu": (SEQ, lambda: L.PReLU(shared_axes=[1])),
    "elu": (SEQ, lambda: L.ELU(0.7)),
    "softmax": (SEQ, lambda: L.Softmax()),
    "dropouts": (SEQ, lambda: keras.Sequential([L.Dropout(0.5), L.SpatialDropout1D(0.5), L.GaussianNoise(0.1),
                                                L.GaussianDropout(0.1), L.Dense(3)])),
    "masking": (SEQ, lambda: L.Masking(0.0)),
}

RARE = {  # run with the slow tests
    "lstm no bias", "lstm unroll", "gru no bias", "bidirectional sum", "bidirectional mul", "bidirectional ave",
    "bidirectional last", "time distributed conv", "conv lstm 1d", "conv1d strides", "conv2d groups", "conv3d",
    "separable conv2d", "depthwise conv2d", "conv1d transpose", "conv2d transpose", "max pooling1d same",
    "average pooling2d", "global average2d", "global max2d", "batch normalization plain", "layer normalization plain",
    "group normalization", "unit normalization", "rescaling", "normalization", "permute", "zero padding2d",
    "cropping2d", "up sampling2d", "elu", "softmax", "multiply", "average", "minimum", "dot cosine",
    "attention causal", "attention scores", "views", "last"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in RARE else name
                                  for name in ONE_INPUT])
def test_a_layer_computes_what_keras_computes(name: str, tmp_path: Path) -> None:
    shape, make = ONE_INPUT[name]
    x = keras.Input(shape)
    model = randomized(keras.Model(x, make()(x)))
    check(model, tmp_path)


ACTIVATIONS = (
    "celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu",
    "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink",
    "softmax", "softplus", "softsign", "sparse_sigmoid", "squareplus", "tanh", "tanh_shrink", "glu")


def test_activations_by_name(tmp_path: Path) -> None:
    x = keras.Input((None, 6))
    check(keras.Model(x, [L.Activation(name)(x) for name in ACTIVATIONS]), tmp_path)


TWO_INPUTS: dict[str, Any] = {
    "add": lambda a, b: L.Add()([a, b]), "subtract": lambda a, b: L.Subtract()([a, b]),
    "multiply": lambda a, b: L.Multiply()([a, b, a]), "average": lambda a, b: L.Average()([a, b]),
    "maximum": lambda a, b: L.Maximum()([a, b]), "minimum": lambda a, b: L.Minimum()([a, b]),
    "concatenate": lambda a, b: L.Concatenate()([a, b]), "concatenate time": lambda a, b: L.Concatenate(1)([a, b]),
    "dot": lambda a, b: L.Dot(axes=2)([a, b]), "dot cosine": lambda a, b: L.Dot(axes=(2, 2), normalize=True)([a, b]),
    "attention": lambda a, b: L.Attention(use_scale=True)([a, b]),
    "attention concat": lambda a, b: L.Attention(score_mode="concat")([a, b, b]),
    "attention causal": lambda a, b: L.Attention()([a, b], use_causal_mask=True),
    "attention scores": lambda a, b: L.Attention()([a, b], return_attention_scores=True),
    "additive attention": lambda a, b: L.AdditiveAttention()([a, b]),
    "multi head": lambda a, b: L.MultiHeadAttention(2, 3)(a, b),
    "multi head all": lambda a, b: L.MultiHeadAttention(2, 3, value_dim=4, output_shape=6, use_bias=False)(
        a, b, key=b, use_causal_mask=True),
    "arithmetic": lambda a, b: (a * 2.0 - b) / 4.0 + 1.0,
    "operations": lambda a, b: keras.ops.concatenate([keras.ops.relu(a), keras.ops.tanh(b)], axis=-1),
    "stack": lambda a, b: keras.ops.stack([a, keras.ops.flip(b, axis=1)], axis=1),
    "where": lambda a, b: keras.ops.where(a > 0, b, keras.ops.squeeze(keras.ops.expand_dims(-b, 1), 1)),
    "last": lambda a, b: keras.ops.concatenate([a[:, -1, :], b[:, 0]], axis=-1),
    "views": lambda a, b: [keras.ops.softmax(keras.ops.transpose(a, (0, 2, 1)) @ a, axis=1),
                            keras.ops.reshape(b, (-1, 5))],
    "means": lambda a, b: keras.ops.mean(a, axis=1) + keras.ops.max(b, axis=1),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in RARE else name
                                  for name in TWO_INPUTS])
def test_a_layer_of_two_inputs_computes_what_keras_computes(name: str, tmp_path: Path) -> None:
    a, b = keras.Input((None, 5), name="first"), keras.Input((None, 5), name="second")
    model = randomized(keras.Model([a, b], TWO_INPUTS[name](a, b)))
    check(model, tmp_path)


def test_lengths_of_two_inputs_may_differ_where_nothing_joins_them() -> None:
    a, b = keras.Input((None, 5), name="first"), keras.Input((None, 5), name="second")
    model = randomized(keras.Model([a, b], L.Concatenate(1)([L.LSTM(3, return_sequences=True)(a), L.Attention()([b, a]
                                                                                                        )[..., :3]])))
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal((2, n, 5)).astype(np.float32) for n in (4, 7)]
    compare(model, rg.from_keras(model), xs, 1e-5)
