"""The layers beside the recurrent ones: Dense, Embedding, Masking, Dropout, Activation."""

from __future__ import annotations

from math import isfinite

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Dim
from rnngraph.ir import ops as ir_ops
from rnngraph.nn import ops
from rnngraph.nn.activations import Activation as ActivationFunction
from rnngraph.nn.activations import to_activation
from rnngraph.nn.cells.gated import check_rate
from rnngraph.nn.context import active
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.layer import Layer
from rnngraph.nn.tensor import Tensor, wrap


class Dense(Layer):
    """activation(x W + b) over the last axis of [batch, ..., features]."""

    supports_masking = True

    def __init__(self, units: int, activation: str | ActivationFunction | None = None, use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer = "zeros", name: str | None = None) -> None:
        super().__init__(name)
        self.units = units
        self.activation = to_activation(activation)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def setup(self, shape: tuple[Dim, ...]) -> None:
        features = shape[-1] if len(shape) > 1 else None
        if not isinstance(features, int):
            raise ShapeError(f"expected [batch, ..., features] with an integer number of features, got "
                             f"[{','.join(map(str, shape))}]")
        self.kernel = self.add_weight("kernel", (features, self.units), self.kernel_initializer)
        if self.use_bias:
            self.bias = self.add_weight("bias", (self.units,), self.bias_initializer)

    def call(self, x: Tensor) -> Tensor:
        features = self.kernel.shape[0]
        assert isinstance(features, int)
        self.expect_features(x, features)
        y = x @ self.kernel
        return self.activation(y + self.bias if self.use_bias else y)


class Embedding(Layer):
    """Rows of a table [input_dim, output_dim] by integer index: [batch, ...] -> [batch, ..., output_dim].

    mask_zero: the output has a mask, false where the index is 0, which later layers see (Keras); see `RNN`.

    Example:
        >>> import numpy as np, rnngraph as rg
        >>> model = rg.nn.Sequential([rg.nn.Embedding(9, 3, mask_zero=True), rg.nn.LSTM(4)])
        >>> compiled = rg.compile(model, rg.Input(("batch", "time"), dtype="i32"))
        >>> words = np.array([[5, 2, 0, 0], [5, 2, 7, 0]])
        >>> bool((compiled(words)[0] == compiled(words[:1, :2])[0]).all())
        True
    """

    def __init__(self, input_dim: int, output_dim: int, embeddings_initializer: str | Initializer = "uniform",
                 mask_zero: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        self.mask_zero = mask_zero
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.embeddings_initializer = embeddings_initializer

    def setup(self, shape: tuple[Dim, ...]) -> None:
        self.embeddings = self.add_weight("embeddings", (self.input_dim, self.output_dim),
                                          self.embeddings_initializer)

    def call(self, x: Tensor) -> Tensor:
        if x.dtype.kind != "int":
            raise ShapeError(f"expected integer indices, got {x.type}; declare Input(..., dtype='i32')")
        return wrap(active().builder.op(ir_ops.GATHER, self.embeddings.value(), x.value()))

    @property
    def input_dtype(self) -> str:
        return "i32"

    def compute_mask(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        return ops.not_equal(x, 0) if self.mask_zero else None


class Masking(Layer):
    """Mask the steps of [batch, time, ..., features] at which every feature is ``mask_value``; they become zero.

    Later layers see the mask bool[batch, time, ...]: recurrent ones leave such a step out (see `RNN`); Dense,
    Dropout, Activation and LayerNormalization pass it on (Keras's Masking). Raises TraceError unless the value is a
    finite number.

    Example:
        >>> import numpy as np, rnngraph as rg
        >>> compiled = rg.compile(rg.nn.Sequential([rg.nn.Masking(), rg.nn.GRU(4)]), rg.Input(("batch", "time", 2)))
        >>> x = np.ones((1, 3, 2), np.float32)
        >>> holes = np.concatenate([x[:, :1], 0 * x[:, :1], x[:, :2]], axis=1)
        >>> bool(np.allclose(compiled(x), compiled(holes), atol=1e-6))
        True
    """

    def __init__(self, mask_value: float = 0.0, name: str | None = None) -> None:
        super().__init__(name)
        if isinstance(mask_value, bool) or not isinstance(mask_value, int | float) or not isfinite(mask_value):
            raise TraceError(f"layer {self.path!r}: mask_value must be a finite number, got {mask_value!r}")
        self.mask_value = mask_value

    def call(self, x: Tensor) -> Tensor:
        self.expect_features(x)
        if x.rank < 3:
            raise ShapeError(f"expected an input [batch, time, ..., features], got {x.type}")
        keep = self.compute_mask(x, None)
        return ops.where(ops.reshape(keep, (*keep.shape, 1)), x, 0.0)

    def compute_mask(self, x: Tensor, mask: Tensor | None) -> Tensor:
        differs = ops.where(ops.not_equal(x, self.mask_value), ops.ones_like(x), 0.0)
        return ops.max(differs, axis=-1) > 0.5


class Dropout(Layer):
    """In training, elements become 0 with probability ``rate`` and the others grow by 1/(1-rate)."""

    supports_masking = True

    def __init__(self, rate: float, name: str | None = None) -> None:
        super().__init__(name)
        self.rate = check_rate(f"layer {self.path!r}", "rate", rate)

    def call(self, x: Tensor) -> Tensor:
        trace = active()
        if not trace.options.training or self.rate == 0.0:
            return x
        return x * wrap(trace.random_mask(trace.builder, x.shape, self.rate, x.dtype))


class Activation(Layer):
    """An activation as a layer, by name or function."""

    supports_masking = True

    def __init__(self, activation: str | ActivationFunction, name: str | None = None) -> None:
        super().__init__(name)
        self.activation = to_activation(activation)

    def call(self, x: Tensor) -> Tensor:
        return self.activation(x)
