"""A greedy decoder: each step reads the word that the step before wrote; a row is done when it writes END."""

from typing import Any

import numpy as np

import rnngraph as rg
from rnngraph import nn
from rnngraph.nn import ops

END, START, WORDS, UNITS = 0, 1, 9, 24


class GreedyDecoder(nn.Layer):
    """From a state [batch, UNITS]: the words [batch, most, 1], END and zeros behind it, and how many there are."""

    def __init__(self, most: int) -> None:
        super().__init__("decoder")
        self.most = most
        self.cell = nn.GRUCell(UNITS)

    def children(self) -> dict[str, nn.Cell]:
        return {"cell": self.cell}

    def setup(self, shape: Any) -> None:
        self.embedding = self.add_weight("embedding", (WORDS, 8), "uniform")
        self.output = self.add_weight("output", (UNITS, WORDS))

    def call(self, state: Any) -> Any:
        def loop(time: Any, output: Any, cell_state: Any, loop_state: Any) -> Any:
            if output is None:  # the start: no row is finished, START is read
                word = ops.sum(ops.zeros_like(state), 1) + float(START)
                return word < 0.0, ops.one_hot(word, WORDS) @ self.embedding, state, None, None
            word = ops.argmax(output @ self.output, dtype="f32")  # an index that native code can carry on
            following = ops.one_hot(word, WORDS) @ self.embedding
            return word == float(END), following, cell_state, ops.reshape(word, (*word.shape, 1)), None

        words, _, _, steps = nn.raw_rnn(self.cell, loop, self.most)
        return words, steps


decoder = GreedyDecoder(most=12)
decoder.build((None, UNITS))
rng = np.random.default_rng(8)
decoder.set_weights([np.asarray(rng.standard_normal(w.shape), np.float32) for w in decoder.weights.values()])
compiled = rg.compile(decoder, rg.Input(("batch", UNITS)))
words, steps = compiled(rng.standard_normal((6, UNITS)).astype(np.float32))
for row, n in zip(words[..., 0].astype(int), steps, strict=True):
    print(*row[:n])
