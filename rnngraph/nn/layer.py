"""Layer: the base of everything that a model is made of."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Dim
from rnngraph.nn.context import active
from rnngraph.nn.symbol import Input, abstract_trace, symbolic_shape
from rnngraph.nn.tensor import Tensor, Traced, tensors_in, wrap
from rnngraph.nn.weights import WeightOwner, check_name


class Layer(WeightOwner):
    """Base of the layers. A subclass creates its weights in ``setup(shape)`` and computes in ``call(x)``.

    Example:
        >>> from rnngraph.nn import Input, Layer, trace
        >>> class Scale(Layer):
        ...     def setup(self, shape):
        ...         self.scale = self.add_weight("scale", (shape[-1],), "ones")
        ...     def call(self, x):
        ...         return x * self.scale
        >>> trace(Scale(), Input(("batch", 3))).output_names
        ('y',)
    """

    supports_masking: ClassVar[bool] = False  # whether an input's mask is the output's as well
    inputs: Sequence[Input] = ()  # of a model that has its own
    output_names: Sequence[str] = ()  # of a model that names its outputs
    _built: bool = False

    def __init__(self, name: str | None = None) -> None:
        self.name = check_name(name)

    def setup(self, shape: tuple[Dim, ...]) -> None:
        """Create the weights for inputs of this shape; runs once, before the first call."""

    def call(self, *inputs: Any, **kwargs: Any) -> Any:
        """Compute the output, a tensor or a tuple of tensors, in the active trace."""
        raise NotImplementedError

    @property
    def input_dtype(self) -> str:
        """The dtype of the first input, where only its shape is given."""
        return "f32"

    @property
    def built(self) -> bool:
        """Whether the weights exist."""
        return self._built

    def build(self, input_shape: tuple[Dim | None, ...]) -> None:
        """Create the weights for an input shape (with batch; None for open dims), as a call would."""
        with abstract_trace() as trace:
            x = Input(symbolic_shape(tuple(input_shape)), self.input_dtype)
            self(Traced(trace, trace.graph.add_input(x.type, x.name)))

    @property
    def recurrent_depth(self) -> int:
        """How many recurrent layers are in here, one behind the other; see `rnngraph.nn.canonical`."""
        return 0

    def unbuild(self) -> None:
        super().unbuild()
        self._built = False

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        """Apply to tensors of a trace, or to an Input or symbol to compose a Model."""
        given = tensors_in([*inputs, *kwargs.values()])
        if not given:
            raise TraceError(f"layer {self.path!r}: expected a tensor or Input, got {inputs!r}; arrays go to "
                             "a compiled model")
        for tensor in given:
            if tensor.deferred:
                return tensor.defer(self, inputs, kwargs)
        with active().scope(self.scope_name()):
            return self.run(*inputs, **kwargs)

    def compute_mask(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        """The mask bool[batch, time] of the output, of that of the first input (Keras); None: it has none."""
        return mask if self.supports_masking else None

    def pass_mask(self, inputs: Sequence[Tensor], result: Any) -> None:
        """Give the output its mask. A UserWarning, as in Keras 3, where a layer loses the mask of its input."""
        trace = active()
        out = result[0] if isinstance(result, tuple) else result
        x = inputs[0]
        given = trace.time_masks.get(x.value())
        mask = self.compute_mask(x, None if given is None else wrap(given))
        if mask is not None:
            trace.time_masks[out.value()] = mask.value()
        elif given is not None and type(self).compute_mask is Layer.compute_mask:
            warnings.warn(f"layer {trace.path or self.path!r}: its input has a mask, which this layer does not pass "
                          "on: layers behind it do not see it; set supports_masking = True where it should be",
                          stacklevel=2)

    def scope_name(self) -> str:
        return self.name or self.default_name()

    def run(self, *inputs: Any, **kwargs: Any) -> Any:
        """Build if needed, then `call`; a ShapeError names this layer."""
        try:
            if not self._built:
                if self._path is None:
                    self.assign_path(self.path)
                self.setup(tensors_in(list(inputs))[0].shape)
                self._built = True
            result = self.call(*inputs, **kwargs)
            self.pass_mask(tensors_in(list(inputs)), result)
            return result
        except ShapeError as e:
            if str(e).startswith("layer "):
                raise
            raise ShapeError(f"layer {active().path or self.path!r}: {e}") from e

    def expect(self, x: Tensor, rank: int, layout: str) -> None:
        """ShapeError unless ``x`` is a float tensor of this rank with an integer number of features."""
        if x.rank != rank:
            raise ShapeError(f"expected an input of rank {rank}, {layout}, got {x.type} of rank {x.rank}")
        self.expect_features(x)

    def expect_features(self, x: Tensor, features: int | None = None) -> int:
        """The size of the last axis; ShapeError unless x is float and the size an integer (``features``)."""
        if not x.dtype.is_float:
            raise ShapeError(f"expected a float input, got {x.type}; use Embedding or rnngraph.nn.ops.cast")
        got = x.shape[-1] if x.rank else None
        if not isinstance(got, int):
            raise ShapeError(f"expected an integer number of features as the last dim, got {x.type}")
        if features is not None and got != features:
            raise ShapeError(f"expected {features} features, got {got} in an input {x.type}")
        return got
