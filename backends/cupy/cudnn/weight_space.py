"""Where cuDNN keeps the weights of a recurrent network, by formula.

All matrices of all pseudo-layers come first (of each: the input's, the recurrent ones, the projection), then all
biases (of each: the input's, the recurrent ones). A pseudo-layer is a layer, or with two directions
``2 * layer + direction``. A matrix is [outputs, inputs], rows first. Gates stand as in an ``rnn`` node: i f g o; r z n.
cuDNN itself is asked for the addresses when a network is built (`Network.check` in `network`), so that another
order in another version is an error, not a wrong number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rnngraph.ir import Array, Rnn, RnnAttrs
from rnngraph.phases.static import static_array


@dataclass(frozen=True, slots=True)
class Part:
    """A gate's matrix and bias: pseudo-layer, cuDNN's linear layer id, and in elements where they begin."""

    pseudo: int
    linear: int
    matrix: int
    shape: tuple[int, int]
    bias: int | None


@dataclass(frozen=True, slots=True)
class WeightSpace:
    """The layout for an ``rnn`` node's attributes and its number of input features."""

    attrs: RnnAttrs
    inputs: int

    @property
    def pseudo_layers(self) -> int:
        return self.attrs.num_layers * len(self.attrs.reverses)

    def inputs_of(self, pseudo: int) -> int:
        """The features that a pseudo-layer reads."""
        directions = len(self.attrs.reverses)
        return self.inputs if pseudo < directions else self.attrs.features * directions

    def parts(self) -> Iterator[Part]:
        """Every gate, in cuDNN's order of ids: the input's gates, the recurrent ones, the projection."""
        a, at = self.attrs, 0
        bias = self.matrices
        for pseudo in range(self.pseudo_layers):
            wide = self.inputs_of(pseudo)
            for linear in range(a.gates):
                yield Part(pseudo, linear, at, (a.hidden, wide), bias + linear * a.hidden)
                at += a.hidden * wide
            for linear in range(a.gates, 2 * a.gates):
                yield Part(pseudo, linear, at, (a.hidden, a.features), bias + linear * a.hidden)
                at += a.hidden * a.features
            bias += 2 * a.gates * a.hidden
            if a.proj:
                yield Part(pseudo, 2 * a.gates, at, (a.proj, a.hidden), None)
                at += a.proj * a.hidden

    @property
    def matrices(self) -> int:
        """How many elements all matrices have."""
        a = self.attrs
        each = sum(a.gates * a.hidden * (self.inputs_of(p) + a.features) for p in range(self.pseudo_layers))
        return each + self.pseudo_layers * a.proj * a.hidden

    @property
    def size(self) -> int:
        """How many elements there are."""
        return self.matrices + self.pseudo_layers * 2 * self.attrs.gates * self.attrs.hidden

    def pack(self, node: Rnn, first: int = 0) -> Array:
        """The weights of an ``rnn`` node from its layer ``first`` on, all constants, as one array."""
        a, h = self.attrs, self.attrs.hidden
        out = np.zeros(self.size, node.x.type.dtype.numpy)
        directions = len(a.reverses)
        for part in self.parts():
            layer, direction = divmod(part.pseudo, directions)
            w, r, bw, br, *p = (static_array(v) for v in node.weights(first + layer, direction))
            matrix, vector = ((w, bw), (r, br), (p[0] if p else r, br))[part.linear // a.gates]
            gate = part.linear % a.gates
            lanes = slice(gate * h, (gate + 1) * h) if part.linear < 2 * a.gates else slice(None)
            rows, columns = part.shape
            out[part.matrix : part.matrix + rows * columns] = matrix[:, lanes].T.ravel()
            if part.bias is not None:
                out[part.bias : part.bias + h] = vector[lanes]
        return out


__all__ = ["Part", "WeightSpace"]
