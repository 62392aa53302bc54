"""The layers beside the recurrent ones: Keras's configuration -> ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rnngraph import nn
from rnngraph.errors import TraceError
from rnngraph.frontends.keras.activations import activation, relu_of, slope
from rnngraph.frontends.keras.config import Config
from rnngraph.frontends.keras.names import identifier
from rnngraph.frontends.keras.variables import Made, Variables
from rnngraph.nn import Layer, Tensor, ops
from rnngraph.nn.context import active

Maker = Callable[[Config], Made]


class KerasEmbedding(nn.Embedding):
    """An Embedding that takes indices as floats too, as Keras does."""

    def call(self, x: Tensor) -> Tensor:
        return super().call(ops.cast(x, "i32") if x.dtype.is_float else x)


class Noise(nn.Identity):
    """What changes its input in training alone."""

    def call(self, x: Tensor) -> Tensor:
        if active().options.training:
            raise TraceError(f"layer {active().path!r}: this layer's noise in training is not supported")
        return x


def dense(c: Config) -> Made:
    layer = nn.Dense(c.whole("units"), activation(c), c.flag("use_bias", True), name=identifier(c.name))
    return Made(layer, (_with_bias(c, "kernel"),))


def _with_bias(c: Config, *names: str) -> Variables:
    return Variables("", (*names, "bias") if c.flag("use_bias", True) else names)


def embedding(c: Config) -> Made:
    layer = KerasEmbedding(c.whole("input_dim"), c.whole("output_dim"), mask_zero=c.flag("mask_zero", False),
                           name=identifier(c.name))
    return Made(layer, (Variables("", ("embeddings",)),))


def masking(c: Config) -> Made:
    return Made(nn.Masking(c.number("mask_value", 0.0), name=identifier(c.name)))


def dropout(c: Config) -> Made:
    return Made(nn.Dropout(c.number("rate", 0.0), name=identifier(c.name)))


def noise(c: Config) -> Made:
    for key in ("rate", "stddev", "min_value", "max_value", "factor", "l1", "l2"):
        c.get(key, None)
    return Made(Noise(name=identifier(c.name)))


def identity(c: Config) -> Made:
    return Made(nn.Identity(name=identifier(c.name)))


def activations(c: Config) -> Made:
    return Made(nn.Activation(activation(c), name=identifier(c.name)))


def relu(c: Config) -> Made:
    return Made(nn.Activation(relu_of(c), name=identifier(c.name)))


def leaky_relu(c: Config) -> Made:
    return Made(nn.LeakyReLU(slope(c), name=identifier(c.name)))


def prelu(c: Config) -> Made:
    axes = c.get("shared_axes", [])
    axes = [axes] if isinstance(axes, int) else axes
    if not isinstance(axes, list) or not all(isinstance(a, int) for a in axes):
        raise c.fail(f"shared_axes must be a list of axes, got {str(axes)[:60]}")
    return Made(nn.PReLU(shared_axes=axes, name=identifier(c.name)), (Variables("", ("alpha",)),))


def elu(c: Config) -> Made:
    return Made(nn.ELU(c.number("alpha", 1.0), name=identifier(c.name)))


def thresholded_relu(c: Config) -> Made:
    return Made(nn.ThresholdedReLU(c.number("theta", 1.0), name=identifier(c.name)))


def softmax(c: Config) -> Made:
    return Made(nn.Softmax(c.axis("axis", -1), name=identifier(c.name)))


# --- normalization ------------------------------------------------------------------------------------------------


def _affine(c: Config) -> tuple[str, ...]:
    return (*(("gamma",) if c.flag("scale", True) else ()), *(("beta",) if c.flag("center", True) else ()))


def batch_normalization(c: Config) -> Made:
    layer = nn.BatchNormalization(c.axis("axis", -1), c.number("epsilon", 1e-3), c.flag("center", True),
                                  c.flag("scale", True), name=identifier(c.name))
    names = _affine(c)
    c.get("renorm_clipping", None)
    renorm = ("", "", "") if c.flag("renorm", False) else ()
    return Made(layer, (Variables("", (*names, "moving_mean", "moving_variance", *renorm),
                                  tuple(range(len(names), len(names) + 2 + len(renorm)))),))


def layer_normalization(c: Config) -> Made:
    if c.flag("rms_scaling", False):
        raise c.fail("rms_scaling is not supported; RMSNormalization is")
    axis = c.get("axis", -1)
    axes = [axis] if isinstance(axis, int) else _ints(c, "axis")
    layer = nn.LayerNormalization(axes[0] if len(axes) == 1 else axes, c.number("epsilon", 1e-3),
                                  c.flag("center", True), c.flag("scale", True), name=identifier(c.name))
    return Made(layer, (Variables("", _affine(c)),))


def group_normalization(c: Config) -> Made:
    layer = nn.GroupNormalization(c.whole("groups", 32, -1), c.axis("axis", -1), c.number("epsilon", 1e-3),
                                  c.flag("center", True), c.flag("scale", True), name=identifier(c.name))
    return Made(layer, (Variables("", _affine(c)),))


def rms_normalization(c: Config) -> Made:
    layer = nn.RMSNormalization(c.axis("axis", -1), c.number("epsilon", 1e-6), name=identifier(c.name))
    return Made(layer, (Variables("", ("scale",)),))


def unit_normalization(c: Config) -> Made:
    return Made(nn.UnitNormalization(c.axis("axis", -1), name=identifier(c.name)))


def normalization(c: Config) -> Made:
    axis = c.get("axis", None)
    mean, variance = c.get("mean", None), c.get("variance", None)
    layer = nn.Normalization(axis, mean, variance, c.flag("invert", False), name=identifier(c.name))
    return Made(layer, () if mean is not None else (Variables("", ("mean", "variance", ""), (0, 1, 2)),))


def rescaling(c: Config) -> Made:
    return Made(nn.Rescaling(_numbers(c, "scale"), _numbers(c, "offset", 0.0), name=identifier(c.name)))


def _numbers(c: Config, key: str, default: Any = 0.0) -> Any:
    """A number or a list of them."""
    value = c.get(key, default)
    if isinstance(value, list) and all(isinstance(v, int | float) for v in value):
        return value
    return c.number(key, default)


# --- convolution and pooling ----------------------------------------------------------------------------------------


def _format(c: Config) -> str:
    return "channels_last" if c.channels_last() else "channels_first"


def _rank(c: Config) -> int:
    return next(int(d) for d in c.class_name if d.isdigit())


CONV = {"Conv1D": nn.Conv1D, "Conv2D": nn.Conv2D, "Conv3D": nn.Conv3D}
DEPTHWISE = {"DepthwiseConv1D": nn.DepthwiseConv1D, "DepthwiseConv2D": nn.DepthwiseConv2D}
SEPARABLE = {"SeparableConv1D": nn.SeparableConv1D, "SeparableConv2D": nn.SeparableConv2D}
TRANSPOSED = {"Conv1DTranspose": nn.Conv1DTranspose, "Conv2DTranspose": nn.Conv2DTranspose,
              "Conv3DTranspose": nn.Conv3DTranspose}
MAX_POOLS = {"MaxPooling1D": nn.MaxPooling1D, "MaxPooling2D": nn.MaxPooling2D, "MaxPooling3D": nn.MaxPooling3D}
MEAN_POOLS = {"AveragePooling1D": nn.AveragePooling1D, "AveragePooling2D": nn.AveragePooling2D,
              "AveragePooling3D": nn.AveragePooling3D}
GLOBAL: dict[str, Callable[..., Layer]] = {
    "GlobalMaxPooling1D": nn.GlobalMaxPooling1D, "GlobalMaxPooling2D": nn.GlobalMaxPooling2D,
    "GlobalMaxPooling3D": nn.GlobalMaxPooling3D, "GlobalAveragePooling1D": nn.GlobalAveragePooling1D,
    "GlobalAveragePooling2D": nn.GlobalAveragePooling2D, "GlobalAveragePooling3D": nn.GlobalAveragePooling3D}


def _convolution(c: Config, paddings: tuple[str, ...] = ("valid", "same")) -> dict[str, Any]:
    """The arguments that all convolutions share."""
    n = _rank(c)
    return {"kernel_size": c.sizes("kernel_size", n), "strides": c.sizes("strides", n, 1),
            "padding": c.choice("padding", paddings, "valid"), "data_format": _format(c),
            "dilation_rate": c.sizes("dilation_rate", n, 1), "activation": activation(c),
            "use_bias": c.flag("use_bias", True), "name": identifier(c.name)}


def conv(c: Config) -> Made:
    shared = _convolution(c, ("valid", "same", "causal") if _rank(c) == 1 else ("valid", "same"))
    return Made(CONV[c.class_name](c.whole("filters"), groups=c.whole("groups", 1), **shared),
                (_with_bias(c, "kernel"),))


def depthwise_conv(c: Config) -> Made:
    layer = DEPTHWISE[c.class_name](depth_multiplier=c.whole("depth_multiplier", 1), **_convolution(c))
    for key in ("filters", "groups"):  # Keras 2 writes those of the base class
        c.get(key, None)
    return Made(layer, (_with_bias(c, "kernel"),))


def separable_conv(c: Config) -> Made:
    shared = _convolution(c, ("valid", "same", "causal") if _rank(c) == 1 else ("valid", "same"))
    layer = SEPARABLE[c.class_name](c.whole("filters"), depth_multiplier=c.whole("depth_multiplier", 1), **shared)
    c.get("groups", None)
    return Made(layer, (_with_bias(c, "depthwise_kernel", "pointwise_kernel"),))


def conv_transpose(c: Config) -> Made:
    more = c.sizes("output_padding", _rank(c), least=0) if c.has("output_padding") else None
    if c.whole("groups", 1) != 1:
        raise c.fail("groups of a transposed convolution are not supported")
    return Made(TRANSPOSED[c.class_name](c.whole("filters"), output_padding=more, **_convolution(c)),
                (_with_bias(c, "kernel"),))


def pooling(c: Config) -> Made:
    n = _rank(c)
    strides = c.sizes("strides", n) if c.has("strides") else None
    kind = {**MAX_POOLS, **MEAN_POOLS}[c.class_name]
    return Made(kind(c.sizes("pool_size", n, 2), strides, c.choice("padding", ("valid", "same"), "valid"), _format(c),
                     name=identifier(c.name)))


def global_pooling(c: Config) -> Made:
    return Made(GLOBAL[c.class_name](_format(c), c.flag("keepdims", False), name=identifier(c.name)))


# --- shapes -------------------------------------------------------------------------------------------------------


def flatten(c: Config) -> Made:
    return Made(nn.Flatten(_format(c), name=identifier(c.name)))


def _ints(c: Config, key: str) -> list[int]:
    value = c.get(key)
    if not isinstance(value, list | tuple) or not all(isinstance(d, int) and not isinstance(d, bool) and
                                                      abs(d) < 2**31 for d in value):
        raise c.fail(f"{key} must be a list of whole numbers, got {str(value)[:60]}")
    return list(value)


def reshape(c: Config) -> Made:
    return Made(nn.Reshape(_ints(c, "target_shape"), name=identifier(c.name)))


def permute(c: Config) -> Made:
    return Made(nn.Permute(_ints(c, "dims"), name=identifier(c.name)))


def repeat_vector(c: Config) -> Made:
    return Made(nn.RepeatVector(c.whole("n"), name=identifier(c.name)))


def padding(c: Config) -> Made:
    kind = {"ZeroPadding1D": nn.ZeroPadding1D, "ZeroPadding2D": nn.ZeroPadding2D}[c.class_name]
    return Made(kind(c.pairs("padding", _rank(c), 1), _format(c), name=identifier(c.name)))


def cropping(c: Config) -> Made:
    kind = {"Cropping1D": nn.Cropping1D, "Cropping2D": nn.Cropping2D}[c.class_name]
    return Made(kind(c.pairs("cropping", _rank(c), 1), _format(c), name=identifier(c.name)))


def up_sampling(c: Config) -> Made:
    if _rank(c) == 1:
        return Made(nn.UpSampling1D(c.sizes("size", 1, 2), name=identifier(c.name)))
    c.choice("interpolation", ("nearest",), "nearest")
    return Made(nn.UpSampling2D(c.sizes("size", 2, 2), _format(c), name=identifier(c.name)))


# --- several inputs -------------------------------------------------------------------------------------------------


def merge(kind: type[Layer]) -> Maker:
    return lambda c: Made(kind(name=identifier(c.name)))


def concatenate(c: Config) -> Made:
    return Made(nn.Concatenate(c.axis("axis", -1), "any" if c.keras >= 3 else "all", name=identifier(c.name)))


def dot(c: Config) -> Made:
    axes = c.get("axes")
    return Made(nn.Dot(axes if isinstance(axes, int) else _ints(c, "axes"), c.flag("normalize", False),
                       name=identifier(c.name)))


def attention(c: Config) -> Made:
    scale = c.flag("use_scale", False)
    mode = c.choice("score_mode", ("dot", "concat"), "dot")
    layer = nn.Attention(scale, mode, c.number("dropout", 0.0), name=identifier(c.name))
    c.get("causal", False)
    names = (*(("scale",) if scale else ()), *(("concat_score_weight",) if mode == "concat" else ()))
    if c.values.get("causal"):
        raise c.fail("causal=True is not supported; use_causal_mask of the call is")
    return Made(layer, (Variables("", names),) if names else ())


def additive_attention(c: Config) -> Made:
    scale = c.flag("use_scale", True)
    layer = nn.AdditiveAttention(scale, c.number("dropout", 0.0), name=identifier(c.name))
    return Made(layer, (Variables("", ("scale",)),) if scale else ())


def multi_head_attention(c: Config) -> Made:
    out = c.get("output_shape", None)
    axes = c.get("attention_axes", None)
    if axes not in (None, 1, [1], (1,)):
        raise c.fail(f"attention over the axes {axes} is not supported, only over axis 1")
    out = out[0] if isinstance(out, list | tuple) and len(out) == 1 else out
    if out is not None and not (isinstance(out, int) and out > 0):
        raise c.fail(f"output_shape must be one number, got {str(out)[:60]}")
    bias = c.flag("use_bias", True)
    layer = nn.MultiHeadAttention(c.whole("num_heads"), c.whole("key_dim"), c.whole("value_dim", c.get("key_dim")),
                                  c.number("dropout", 0.0), bias, out, name=identifier(c.name))
    for key in ("query_shape", "key_shape", "value_shape", "flash_attention"):  # of Keras 2
        c.get(key, None)
    return Made(layer, tuple(Variables(f"{place}_dense", (f"{place}_kernel", f"{place}_bias")[: 1 + bias])
                             for place in ("query", "key", "value", "output")))


MAKERS: dict[str, Maker] = {
    "Dense": dense, "Embedding": embedding, "Masking": masking, "Dropout": dropout, "SpatialDropout1D": noise,
    "SpatialDropout2D": noise, "SpatialDropout3D": noise, "GaussianNoise": noise, "GaussianDropout": noise,
    "AlphaDropout": noise, "ActivityRegularization": noise, "Identity": identity, "Activation": activations,
    "ReLU": relu, "LeakyReLU": leaky_relu, "PReLU": prelu, "ELU": elu, "ThresholdedReLU": thresholded_relu,
    "Softmax": softmax,
    "BatchNormalization": batch_normalization, "BatchNormalizationV1": batch_normalization,
    "BatchNormalizationV2": batch_normalization, "SyncBatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization, "GroupNormalization": group_normalization,
    "RMSNormalization": rms_normalization, "UnitNormalization": unit_normalization, "Normalization": normalization,
    "Rescaling": rescaling, **dict.fromkeys(CONV, conv), **dict.fromkeys(DEPTHWISE, depthwise_conv),
    **dict.fromkeys(SEPARABLE, separable_conv), **dict.fromkeys(TRANSPOSED, conv_transpose),
    **dict.fromkeys(MAX_POOLS, pooling), **dict.fromkeys(MEAN_POOLS, pooling), **dict.fromkeys(GLOBAL, global_pooling),
    "Flatten": flatten, "Reshape": reshape, "Permute": permute, "RepeatVector": repeat_vector,
    "ZeroPadding1D": padding, "ZeroPadding2D": padding, "Cropping1D": cropping, "Cropping2D": cropping,
    "UpSampling1D": up_sampling, "UpSampling2D": up_sampling, "Add": merge(nn.Add), "Subtract": merge(nn.Subtract),
    "Multiply": merge(nn.Multiply), "Average": merge(nn.Average), "Maximum": merge(nn.Maximum),
    "Minimum": merge(nn.Minimum), "Concatenate": concatenate, "Dot": dot, "Attention": attention,
    "AdditiveAttention": additive_attention, "MultiHeadAttention": multi_head_attention}
