"""The layers beside the recurrent ones: Dense, Embedding, Dropout, Activation, LayerNormalization."""

from __future__ import annotations

from rnngraph.errors import ShapeError
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
    """Rows of a table [input_dim, output_dim] by integer index: [batch, ...] -> [batch, ..., output_dim]."""

    input_dtype = "i32"

    def __init__(self, input_dim: int, output_dim: int, embeddings_initializer: str | Initializer = "uniform",
                 name: str | None = None) -> None:
        super().__init__(name)
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


class Dropout(Layer):
    """In training, elements become 0 with probability ``rate`` and the others grow by 1/(1-rate)."""

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

    def __init__(self, activation: str | ActivationFunction, name: str | None = None) -> None:
        super().__init__(name)
        self.activation = to_activation(activation)

    def call(self, x: Tensor) -> Tensor:
        return self.activation(x)


class LayerNormalization(Layer):
    """(x - mean) / sqrt(variance + epsilon) over ``axis``, times gamma (scale), plus beta (center)."""

    def __init__(self, axis: int = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
                 name: str | None = None) -> None:
        super().__init__(name)
        self.axis = axis
        self.epsilon = epsilon
        self.center = center
        self.scale = scale

    def setup(self, shape: tuple[Dim, ...]) -> None:
        rank = len(shape)
        if not -rank <= self.axis < rank or not isinstance(shape[self.axis], int):
            raise ShapeError(f"axis {self.axis} must be an axis of integer size, got "
                             f"[{','.join(map(str, shape))}]")
        size = shape[self.axis]
        assert isinstance(size, int)
        self.gamma = self.add_weight("gamma", (size,), "ones") if self.scale else None
        self.beta = self.add_weight("beta", (size,), "zeros") if self.center else None
        self.size = size

    def call(self, x: Tensor) -> Tensor:
        axis = self.axis % x.rank
        if x.shape[axis] != self.size:
            raise ShapeError(f"expected size {self.size} at axis {axis}, got {x.type}")
        shape = (self.size, *[1] * (x.rank - 1 - axis))
        gamma, beta = (None if w is None else ops.reshape(w, shape) for w in (self.gamma, self.beta))
        return ops.layer_norm(x, gamma, beta, axis=axis, epsilon=self.epsilon)
