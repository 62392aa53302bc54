"""The baseline of the demo: g2p-en's own numpy inference, step by step as its `G2p.predict` does it.

After g2p_en/g2p.py (Apache-2.0, Kyubyong Park and Jongseok Kim). It keeps that code's choices, a matmul with
transposed weights per step among them, so that the comparison is with what the package runs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rnngraph.demo.g2p_checkpoint import END, HIDDEN, MAX_PHONEMES, START, FloatArray


def sigmoid(x: FloatArray) -> FloatArray:
    one = np.float32(1)
    return one / (one + np.exp(-x))


class NumpyPronouncer:
    """g2p-en's algorithm, one word at a time."""

    def __init__(self, checkpoint: Mapping[str, FloatArray]) -> None:
        self.variables = checkpoint

    def cell(self, part: str, x: FloatArray, h: FloatArray) -> FloatArray:
        v = self.variables
        rzn_ih = np.matmul(x, v[f"{part}_w_ih"].T) + v[f"{part}_b_ih"]
        rzn_hh = np.matmul(h, v[f"{part}_w_hh"].T) + v[f"{part}_b_hh"]
        rz_ih, n_ih = rzn_ih[:, : 2 * HIDDEN], rzn_ih[:, 2 * HIDDEN :]
        rz_hh, n_hh = rzn_hh[:, : 2 * HIDDEN], rzn_hh[:, 2 * HIDDEN :]
        r, z = np.split(sigmoid(rz_ih + rz_hh), 2, -1)
        n = np.tanh(n_ih + r * n_hh)
        h = (1 - z) * n + z * h
        return h

    def encode(self, letters: list[int]) -> FloatArray:
        """The encoder's last state, [1, 256]."""
        x = np.take(self.variables["enc_emb"], np.expand_dims(letters, 0), axis=0)
        h = np.zeros((1, HIDDEN), np.float32)
        outputs = np.zeros((1, len(letters), HIDDEN), np.float32)
        for t in range(len(letters)):
            h = self.cell("enc", x[:, t, :], h)
            outputs[:, t, ::] = h
        return outputs[:, -1, :]

    def predict(self, letters: list[int]) -> list[int]:
        """Phoneme numbers, greedily, at most 20."""
        h = self.encode(letters)
        x = np.take(self.variables["dec_emb"], [START], axis=0)
        found: list[int] = []
        for _ in range(MAX_PHONEMES):
            h = self.cell("dec", x, h)
            logits = np.matmul(h, self.variables["fc_w"].T) + self.variables["fc_b"]
            best = int(logits.argmax())
            if best == END:
                break
            found.append(best)
            x = np.take(self.variables["dec_emb"], [best], axis=0)
        return found
