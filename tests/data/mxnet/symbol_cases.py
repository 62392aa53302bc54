"""The symbols of symbols.json.gz, by family; `make_symbols` records what they compute."""

from __future__ import annotations

from typing import Any

import mxnet as mx

SIZES = {"batch": 2, "time": 5}
CASES: dict[str, tuple[Any, dict[str, tuple[Any, ...]]]] = {}
S = mx.sym


def case(name: str, symbol: Any, **shapes: tuple[Any, ...]) -> None:
    assert name not in CASES
    CASES[name] = symbol, shapes


X, Y, IDS, N = (S.Variable(n) for n in ("data", "other", "index", "lengths"))
BT = ("batch", "time")
BTC = ("batch", "time", 6)
IMAGE = ("batch", 4, 7, 6)
WAVE = ("batch", 4, "time")


def elementwise() -> None:
    for name in (
        "relu sigmoid tanh exp square abs sign floor ceil rint round trunc fix erf softsign sin cos tan sinh "
        "cosh arcsinh arctan cbrt expm1 negative reciprocal degrees radians logical_not"
    ).split():
        case(name, getattr(S, name)(X), data=BTC)
    for name in "log sqrt rsqrt log2 log10 log1p rcbrt".split():
        case(name, getattr(S, name)(S.square(X) + 0.5), data=BTC)
    for name in "arcsin arccos arctanh".split():
        case(name, getattr(S, name)(S.tanh(X)), data=BTC)
    case("arccosh", S.arccosh(S.square(X) + 1.5), data=BTC)
    for name in "add sub mul div maximum minimum hypot".split():
        case(f"broadcast_{name}", getattr(S, f"broadcast_{name}")(X, Y), data=BTC, other=("batch", 1, 6))
    for name in (
        "broadcast_equal broadcast_not_equal broadcast_greater broadcast_greater_equal broadcast_lesser "
        "broadcast_lesser_equal broadcast_logical_and broadcast_logical_or broadcast_logical_xor"
    ).split():
        case(name, getattr(S, name)(S.rint(X), S.rint(Y)), data=BTC, other=("batch", "time", 1))
    case("broadcast_mod", S.broadcast_mod(X, S.rint(Y)), data=BTC, other=BTC)
    case("broadcast_power", S.broadcast_power(S.abs(X), Y), data=BTC, other=BTC)
    case("operators", S.Group([X + Y, X - Y, X * Y, X / Y, X > Y, X == Y, X <= Y]), data=BTC, other=BTC)
    case(
        "numbers",
        S.Group(
            [
                X + 2,
                3 - X,
                X * 2,
                1 / X,
                X / 3,
                X**2,
                2**X,
                X > 0.5,
                X != 0,
                X <= 0,
                X % 0.7,
                S.maximum(X, 0.1),
                S.minimum(X, 0.1),
                S.hypot(X, 2.0),
            ]
        ),
        data=BTC,
    )
    case("add_n", S.add_n(X, Y, X), data=BTC, other=BTC)
    case("where", S.where(X > 0, X, Y), data=BTC, other=BTC)
    case(
        "where_rows",
        S.where(S.slice_axis(X, axis=1, begin=0, end=1).reshape((-1,)) > 0, X, Y),
        data=("batch", 6),
        other=("batch", 6),
    )
    case("clip", S.clip(X, -0.5, 0.25), data=BTC)
    case("hard_sigmoid", S.hard_sigmoid(X, alpha=0.3, beta=0.4), data=BTC)
    case("smooth_l1", S.smooth_l1(X, scalar=2.0), data=BTC)
    case("block_grad", S.MakeLoss(S.identity(S.BlockGrad(X))), data=BTC)
    case("cast", S.Cast(S.Cast(X * 3, dtype="int32"), dtype="float32"), data=BTC)


def layers() -> None:
    case("dense", S.FullyConnected(X, num_hidden=5, name="fc"), data=("batch", 6))
    case("dense_flatten", S.FullyConnected(X, num_hidden=5, name="fc"), data=("batch", 3, 6))
    case("dense_3d", S.FullyConnected(X, num_hidden=5, flatten=False, no_bias=True, name="fc"), data=BTC)
    for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign"):
        case(f"activation_{kind}", S.Activation(X, act_type=kind), data=BTC)
    for kind in ("leaky", "elu", "selu", "gelu", "rrelu"):
        case(f"leaky_{kind}", S.LeakyReLU(X, act_type=kind, slope=0.1), data=BTC)
    case("leaky_prelu", S.LeakyReLU(X, act_type="prelu", name="act"), data=IMAGE)
    case(
        "softmax",
        S.Group([S.softmax(X), S.softmax(X, axis=1, temperature=2.0), S.log_softmax(X), S.softmin(X)]),
        data=BTC,
    )
    case("softmax_length", S.softmax(X, S.Cast(N, dtype="int32"), axis=1, use_length=True), data=BT, lengths=("batch",))
    case("softmax_output", S.SoftmaxOutput(X, name="softmax"), data=("batch", 6))
    case("softmax_output_multi", S.SoftmaxOutput(X, multi_output=True, name="softmax"), data=WAVE)
    case("softmax_output_preserve", S.SoftmaxOutput(X, preserve_shape=True, name="softmax"), data=BTC)
    case("softmax_output_flat", S.SoftmaxOutput(X, name="softmax"), data=("batch", 3, 4))
    case(
        "softmax_activation",
        S.Group([S.SoftmaxActivation(X, mode=m) for m in ("instance", "channel")]),
        data=("batch", 3, 4),
    )
    case(
        "regression",
        S.Group([S.LogisticRegressionOutput(X, name="a"), S.LinearRegressionOutput(X, name="b")]),
        data=("batch", 6),
    )
    case("dropout", S.Dropout(X, p=0.5), data=BTC)
    case("embedding", S.Embedding(IDS, input_dim=9, output_dim=4, name="embed"), index=BT)
    case("batch_norm", S.BatchNorm(X, name="bn"), data=IMAGE)
    case("batch_norm_gamma", S.BatchNorm(X, fix_gamma=False, eps=1e-2, axis=2, name="bn"), data=BTC)
    case("layer_norm", S.LayerNorm(X, name="ln"), data=BTC)
    case("layer_norm_axis", S.LayerNorm(X, axis=1, name="ln"), data=("batch", 4, 6))
    case("instance_norm", S.InstanceNorm(X, name="norm"), data=WAVE)
    case("group_norm", S.GroupNorm(X, S.Variable("gn_gamma"), S.Variable("gn_beta"), num_groups=2), data=IMAGE)
    case(
        "l2_normalization",
        S.Group([S.L2Normalization(X, mode=m) for m in ("instance", "channel", "spatial")]),
        data=IMAGE,
    )
    case("lrn", S.LRN(X, nsize=3), data=IMAGE)


def images() -> None:
    case("conv2d", S.Convolution(X, kernel=(3, 2), num_filter=6, stride=(2, 1), pad=(1, 0), name="conv"), data=IMAGE)
    case(
        "conv2d_groups",
        S.Convolution(X, kernel=(3, 3), num_filter=6, dilate=(2, 1), num_group=2, no_bias=True, name="conv"),
        data=IMAGE,
    )
    case("conv1d", S.Convolution(X, kernel=(3,), num_filter=6, pad=(1,), name="conv"), data=WAVE)
    case("conv3d", S.Convolution(X, kernel=(2, 2, 2), num_filter=3, name="conv"), data=("batch", 2, 3, 4, 3))
    case(
        "deconv2d",
        S.Deconvolution(X, kernel=(3, 4), num_filter=6, stride=(2, 2), pad=(1, 1), adj=(1, 0), name="de"),
        data=IMAGE,
    )
    case(
        "deconv2d_groups",
        S.Deconvolution(X, kernel=(3, 3), num_filter=6, num_group=2, no_bias=False, name="de"),
        data=IMAGE,
    )
    case("deconv1d", S.Deconvolution(X, kernel=(4,), num_filter=6, stride=(2,), pad=(1,), name="de"), data=WAVE)
    for kind in ("max", "avg", "sum", "lp"):
        more = {"p_value": 2} if kind == "lp" else {}
        case(f"pool_{kind}", S.Pooling(X, kernel=(3, 2), pool_type=kind, stride=(2, 2), pad=(1, 0), **more), data=IMAGE)
        case(f"pool_global_{kind}", S.Pooling(X, kernel=(1, 1), global_pool=True, pool_type=kind, **more), data=IMAGE)
    case(
        "pool_full", S.Pooling(X, kernel=(2, 3), pool_type="max", stride=(2, 2), pooling_convention="full"), data=IMAGE
    )
    case(
        "pool_avg_full",
        S.Pooling(X, kernel=(2, 3), pool_type="avg", stride=(2, 2), pooling_convention="full"),
        data=IMAGE,
    )
    case(
        "pool_avg_valid",
        S.Pooling(X, kernel=(3, 3), pool_type="avg", stride=(2, 2), pad=(1, 1), count_include_pad=False),
        data=IMAGE,
    )
    case("pool1d", S.Pooling(X, kernel=(2,), pool_type="max", stride=(2,)), data=WAVE)
    case("up_sampling", S.UpSampling(X, scale=2, sample_type="nearest", num_args=1), data=IMAGE)
    width = (0, 0, 0, 0, 1, 2, 2, 1)
    case(
        "pad",
        S.Group([S.Pad(X, mode=m, pad_width=width, constant_value=0.5) for m in ("constant", "edge", "reflect")]),
        data=IMAGE,
    )


def movement() -> None:
    for number, (shape, data) in enumerate(
        [
            ((-1, 6), BTC),
            ((0, -1), BTC),
            ((-2,), BTC),
            ((-3, 0), BTC),
            ((0, -3), BTC),
            ((0, 0, -4, 2, -1), BTC),
            ((0, 0, -4, -1, 3), BTC),
            ((-3, -2), BTC),
            ((0, 0, 1, -1), BTC),
            ((-1,), BTC),
            ((2, -1, 6), ("batch", 4, 6)),
        ]
    ):
        case(f"reshape_{number}", S.Reshape(X, shape=shape), data=data)
    case("reshape_reverse", S.Reshape(X, shape=(-1, 0), reverse=True), data=("batch", 4, 6))
    case("reshape_reverse_split", S.Reshape(X, shape=(0, 0, 2, -1, -4), reverse=True), data=("batch", 6, 4))
    case("reshape_like", S.reshape_like(X, Y), data=("batch", 12), other=("batch", 3, 4))
    case("flatten", S.Flatten(X), data=BTC)
    case(
        "transpose", S.Group([S.transpose(X, axes=(2, 0, 1)), S.transpose(X), S.swapaxes(X, dim1=0, dim2=1)]), data=BTC
    )
    case("expand_dims", S.Group([S.expand_dims(X, axis=1), S.expand_dims(X, axis=-1)]), data=BTC)
    case("squeeze", S.squeeze(S.expand_dims(X, axis=1), axis=1), data=BTC)
    case("slice", S.slice(X, begin=(None, 1, -4), end=(None, 4, None), step=(None, 2, 1)), data=BTC)
    case("slice_back", S.slice(X, begin=(None, None, None), end=(None, None, None), step=(1, -1, -2)), data=BTC)
    case(
        "slice_axis",
        S.Group(
            [
                S.slice_axis(X, axis=1, begin=1, end=3),
                S.slice_axis(X, axis=-1, begin=-3, end=None),
                S.slice_axis(X, axis=1, begin=0, end=-1),
            ]
        ),
        data=BTC,
    )
    case("slice_like", S.slice_like(X, Y, axes=(0, 2)), data=("batch", "time", 6), other=("batch", 7, 4))
    case("split", S.SliceChannel(X, num_outputs=3, axis=2), data=BTC)
    case("split_squeeze", S.SliceChannel(X, num_outputs=3, axis=1, squeeze_axis=True), data=("batch", 3, 4))
    case("split_v2", S.split_v2(X, (2, 3), axis=2), data=BTC)
    case("split_v2_sections", S.split_v2(X, 3, axis=1, squeeze_axis=True), data=("batch", 3, 4))
    case("concat", S.concat(X, Y, dim=1), data=BTC, other=("batch", 2, 6))
    case("stack", S.stack(X, Y, axis=1), data=BTC, other=BTC)
    case("tile", S.tile(X, reps=(2, 1, 3)), data=BTC)
    case("repeat", S.Group([S.repeat(X, repeats=2, axis=1), S.repeat(X, repeats=2)]), data=BTC)
    case("broadcast_to", S.broadcast_to(X, shape=(0, 3, 0)), data=("batch", 1, 6))
    case("broadcast_axis", S.broadcast_axis(X, axis=1, size=3), data=("batch", 1, 6))
    case("broadcast_like", S.broadcast_like(X, Y), data=("batch", 1, 6), other=BTC)
    case("reverse", S.reverse(X, axis=1), data=BTC)
    case("like", S.Group([S.zeros_like(X) + 1, S.ones_like(X)]), data=BTC)
    case(
        "values",
        S.Group(
            [
                X + S.zeros((2, 1, 6)),
                S.broadcast_add(X, S.ones((1, 1, 6))),
                S.broadcast_mul(X, S.reshape(S.arange(0, 6, 2, repeat=2), (1, 1, 6))),
            ]
        ),
        data=(2, 1, 6),
    )
    case("arange_like", S.contrib.arange_like(X, axis=1), data=BTC)


def numbers() -> None:
    for name in ("sum", "mean", "max", "min", "prod"):
        f = getattr(S, name)
        case(
            name, S.Group([f(X, axis=1), f(X, axis=(0, 2), keepdims=True), f(X), f(X, axis=1, exclude=True)]), data=BTC
        )
    case("norm", S.Group([S.norm(X, axis=2), S.norm(X, ord=1, axis=1, keepdims=True), S.norm(X)]), data=BTC)
    case("arg", S.Group([S.argmax(X, axis=1), S.argmin(X, axis=2, keepdims=True), S.argmax(X)]), data=BTC)
    case(
        "topk",
        S.Group([S.topk(X, k=3, ret_typ="both")[0], S.topk(X, k=2, axis=1), S.topk(X, k=2, is_ascend=True)]),
        data=BTC,
    )
    case("sort", S.Group([S.sort(X), S.argsort(X, axis=1, is_ascend=False)]), data=BTC)
    case("pick", S.Group([S.pick(X, IDS), S.pick(X, IDS, keepdims=True)]), data=BTC, index=BT)
    case(
        "take",
        S.Group([S.take(X, IDS, axis=2), S.take(X, IDS, axis=0, mode="wrap")]),
        data=("batch", 4, 6),
        index=("time",),
    )
    case("batch_take", S.batch_take(X, S.Cast(IDS, dtype="int32")), data=("batch", 6), index=("batch",))
    case("one_hot", S.Group([S.one_hot(IDS, depth=4), S.one_hot(IDS, depth=9, on_value=2.0, off_value=-1.0)]), index=BT)
    case("gather_nd", S.gather_nd(X, S.stack(IDS, IDS)), data=(9, 9, 2), index=("time",))
    case("dot", S.Group([S.dot(X, Y), S.dot(X, Y.swapaxes(0, 1), transpose_b=True)]), data=("batch", 6), other=(6, 3))
    case("dot_3d", S.dot(X, Y), data=BTC, other=(6, 3))
    case(
        "batch_dot",
        S.Group([S.batch_dot(X, Y, transpose_b=True), S.linalg.gemm2(X, Y, transpose_b=True, alpha=2.0)]),
        data=BTC,
        other=("batch", 4, 6),
    )
    case(
        "sequence",
        S.Group(
            [
                S.SequenceMask(X, N, use_sequence_length=True, value=-1.0),
                S.SequenceLast(X, N, True),
                S.SequenceReverse(X, N, True),
                S.SequenceLast(X),
                S.SequenceReverse(X),
            ]
        ),
        data=("time", "batch", 6),
        lengths=("batch",),
    )
    case("sequence_mask_axis", S.SequenceMask(X, N, use_sequence_length=True, axis=1), data=BTC, lengths=("batch",))
    case("cumsum", S.np.cumsum(X.as_np_ndarray(), axis=1).as_nd_ndarray(), data=BTC)


def flat(states: Any) -> list[Any]:
    return [s for part in states for s in flat(part)] if isinstance(states, list) else [states]


def recurrent() -> None:
    for mode in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        states = {"state_cell": S.Variable("c")} if mode == "lstm" else {}
        shapes = {"c": (4, "batch", 3)} if mode == "lstm" else {}
        case(
            f"rnn_{mode}",
            S.RNN(
                X,
                S.Variable("rnn_parameters"),
                S.Variable("h"),
                mode=mode,
                state_size=3,
                num_layers=2,
                bidirectional=True,
                state_outputs=True,
                name="rnn",
                **states,
            ),
            data=("time", "batch", 6),
            h=(4, "batch", 3),
            **shapes,
        )
    cells = {"rnn": mx.rnn.RNNCell, "lstm": mx.rnn.LSTMCell, "gru": mx.rnn.GRUCell}
    for name, kind in cells.items():
        stack = mx.rnn.SequentialRNNCell()
        stack.add(kind(4, prefix="a_"))
        stack.add(mx.rnn.ResidualCell(kind(4, prefix="b_")))
        out, _ = stack.unroll(4, X, merge_outputs=True)
        case(f"stack_{name}", out, data=("batch", 4, 6))
        both = mx.rnn.BidirectionalCell(kind(3, prefix="l_"), kind(2, prefix="r_"))
        out, states = both.unroll(3, X, merge_outputs=False)
        case(f"bidirectional_{name}", S.Group([*out, *flat(states)]), data=("batch", 3, 6))
    zone = mx.rnn.ZoneoutCell(mx.rnn.LSTMCell(4, prefix="z_"), zoneout_outputs=0.25, zoneout_states=0.25)
    case("zoneout", S.Group(zone.unroll(3, X, merge_outputs=False)[0]), data=("batch", 3, 6))
    fused = mx.rnn.FusedRNNCell(3, num_layers=2, mode="gru", bidirectional=True, prefix="f_", get_next_state=True)
    out, states = fused.unroll(4, X, layout="NTC", merge_outputs=True)
    case("fused_cell", S.Group([out, *states]), data=("batch", 4, 6))
    words = S.Embedding(IDS, input_dim=9, output_dim=4, name="embed")
    out, _ = mx.rnn.LSTMCell(5, prefix="lm_").unroll(4, words, merge_outputs=True)
    logits = S.FullyConnected(S.Reshape(out, shape=(-1, 5)), num_hidden=9, name="pred")
    label = S.Reshape(S.Variable("softmax_label"), shape=(-1,))
    case(
        "language_model", S.SoftmaxOutput(logits, label, name="softmax"), index=("batch", 4), softmax_label=("batch", 4)
    )
    weight = S.Variable("step_weight")

    def step(x: Any, state: Any) -> tuple[Any, Any]:
        h = S.tanh(S.FullyConnected(S.concat(x, state[0], dim=1), weight, num_hidden=4, no_bias=True, name="step"))
        return h * 2, [h]

    out, states = S.contrib.foreach(step, X, [S.Variable("h")])
    case("foreach", S.Group([out, states[0]]), data=("time", "batch", 6), h=("batch", 4))


def gluon() -> None:
    from mxnet.gluon import nn, rnn

    def model(*blocks: Any) -> Any:
        net = nn.HybridSequential(prefix="net_")
        with net.name_scope():
            net.add(*blocks)
        return net(X)

    with mx.name.NameManager():
        case(
            "gluon_mlp",
            model(nn.Dense(5, activation="relu"), nn.BatchNorm(), nn.Dropout(0.5), nn.Dense(3)),
            data=("batch", 6),
        )
        case(
            "gluon_conv",
            model(nn.Conv1D(4, 3, activation="relu"), nn.MaxPool1D(2), nn.GlobalAvgPool1D(), nn.Flatten()),
            data=("batch", 3, 11),
        )
        case("gluon_lstmp", model(rnn.LSTM(5, layout="NTC", projection_size=3)), data=BTC)
        cell = rnn.HybridSequentialRNNCell(prefix="cells_")
        with cell.name_scope():
            cell.add(rnn.LSTMCell(4))
            cell.add(rnn.ResidualCell(rnn.GRUCell(4)))
        outputs, states = cell.unroll(3, X, merge_outputs=True)
        case("gluon_cells", S.Group([outputs, *states]), data=("batch", 3, 6))


def build() -> None:
    """Fill CASES."""
    for family in (elementwise, layers, images, movement, numbers, recurrent, gluon):
        family()
