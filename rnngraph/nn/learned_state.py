"""LearnedState: an initial state that is a weight of the model."""

from __future__ import annotations

from rnngraph.errors import ShapeError
from rnngraph.ir import Dim
from rnngraph.nn.context import active
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.layer import Layer
from rnngraph.nn.tensor import Tensor, wrap


class LearnedState(Layer):
    """An initial state [batch, units] with the same trained values for every row of the batch.

    units        the state's size, an int, or its shape without the batch; float32
    initializer  of the weight ``state``; "zeros"
    batch_axis   where the input that tells the batch has it: 0, or 1 for one that is time-major

    Raises ShapeError for a size that is no positive int. (Lasagne's learn_init, CNTK's initial_state parameter.)

    Example:
        >>> import numpy as np, rnngraph as rg
        >>> x = rg.Input(("batch", "time", 3))
        >>> y = rg.nn.GRU(4)(x, initial_state=rg.nn.LearnedState(4, "ones")(x))
        >>> rg.compile(rg.nn.Model(x, y))(np.zeros((2, 0, 3), np.float32))
        array([[1., 1., 1., 1.],
               [1., 1., 1., 1.]], dtype=float32)
    """

    def __init__(self, units: int | tuple[int, ...], initializer: str | Initializer = "zeros", batch_axis: int = 0,
                 name: str | None = None) -> None:
        super().__init__(name)
        self.state_shape = units if isinstance(units, tuple) else (units,)
        if not all(isinstance(d, int) and not isinstance(d, bool) and d > 0 for d in self.state_shape):
            raise ShapeError(f"layer {self.path!r}: expected a positive int, or a tuple of them, got {units!r}")
        self.initializer = initializer
        self.batch_axis = batch_axis

    def setup(self, shape: tuple[Dim, ...]) -> None:
        self.state = self.add_weight("state", self.state_shape, self.initializer)

    def call(self, x: Tensor) -> Tensor:
        if not 0 <= self.batch_axis < x.rank:
            raise ShapeError(f"expected an input with the batch as axis {self.batch_axis}, got {x.type}")
        shape = (x.shape[self.batch_axis], *self.state_shape)
        return wrap(active().builder.broadcast(self.state.value(), shape, tuple(range(1, len(shape)))))
