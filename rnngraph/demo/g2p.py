"""Words to phonemes: the GRU encoder and decoder of g2p-en as `rnngraph.nn` models, compiled.

The encoder reads the letters of a word to one state; the decoder steps from it, a phoneme at a time, until it says
the word has ended. The decoder is compiled as a sequence of one step whose state goes in and comes out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import rnngraph as rg
from rnngraph.demo.g2p_checkpoint import (
    END,
    GRAPHEMES,
    HIDDEN,
    MAX_PHONEMES,
    PHONEMES,
    START,
    FloatArray,
    load_checkpoint,
)
from rnngraph.demo.g2p_numpy import NumpyPronouncer
from rnngraph.ir import Array

Letters = Sequence[int]


def keras_gru_weights(checkpoint: Mapping[str, FloatArray], part: str) -> list[FloatArray]:
    """kernel, recurrent_kernel and bias of a GRU layer, from rows of gates r, z, n to columns of gates z, r, n."""

    def reorder(array: FloatArray) -> FloatArray:
        r, z, n = np.split(array, 3)
        return np.ascontiguousarray(np.concatenate([z, r, n]).T)

    w, b = f"{part}_w", f"{part}_b"
    return [reorder(checkpoint[f"{w}_ih"]), reorder(checkpoint[f"{w}_hh"]),
            np.stack([reorder(checkpoint[f"{b}_ih"]), reorder(checkpoint[f"{b}_hh"])])]


def encoder_model(checkpoint: Mapping[str, FloatArray]) -> rg.nn.Model:
    """letters i32[batch, time] -> state f32[batch, 256]."""
    letters = rg.Input(("batch", "time"), dtype="i32", name="letters")
    embedding = rg.nn.Embedding(len(GRAPHEMES), HIDDEN, name="graphemes")
    gru = rg.nn.GRU(HIDDEN, name="encoder")
    model = rg.nn.Model(letters, gru(embedding(letters)))
    embedding.set_weights([checkpoint["enc_emb"]])
    gru.set_weights(keras_gru_weights(checkpoint, "enc"))
    return model


def decoder_model(checkpoint: Mapping[str, FloatArray]) -> rg.nn.Model:
    """The last phoneme i32[batch, 1] and the state -> logits f32[batch, 74] and the next state."""
    last = rg.Input(("batch", 1), dtype="i32", name="last")
    state = rg.Input(("batch", HIDDEN), name="state")
    embedding = rg.nn.Embedding(len(PHONEMES), HIDDEN, name="phonemes")
    gru = rg.nn.GRU(HIDDEN, return_state=True, name="decoder")
    dense = rg.nn.Dense(len(PHONEMES), name="logits")
    output, following = gru(embedding(last), initial_state=state)
    model = rg.nn.Model([last, state], [dense(output), following])
    embedding.set_weights([checkpoint["dec_emb"]])
    gru.set_weights(keras_gru_weights(checkpoint, "dec"))
    dense.set_weights([np.ascontiguousarray(checkpoint["fc_w"].T), checkpoint["fc_b"]])
    return model


class Pronouncer:
    """The compiled encoder and decoder. ``predict`` takes letters as `spell` gives them, with the end mark.

    One thread by default: a step of one word is about 0.1 ms of work, too little to share with other threads unless
    the machine has nothing else to do.
    """

    def __init__(self, checkpoint: Mapping[str, FloatArray] | None = None, *, target: str = "auto",
                 threads: int = 1) -> None:
        checkpoint = checkpoint or load_checkpoint()
        self.encoder = rg.compile(encoder_model(checkpoint), target=target, threads=threads)
        self.decoder = rg.compile(decoder_model(checkpoint), target=target, threads=threads)

    def predict(self, letters: Letters) -> list[int]:
        """Phoneme numbers of one word, greedily, at most 20."""
        state = self.encoder(np.array([letters], np.int32))
        last = np.array([[START]], np.int32)
        found: list[int] = []
        for _ in range(MAX_PHONEMES):
            logits, state = self.decoder(last, state)
            best = int(logits.argmax())
            if best == END:
                break
            found.append(best)
            last[0, 0] = best
        return found

    def predict_batch(self, words: Sequence[Letters]) -> list[list[int]]:
        """Phoneme numbers of many words at once; the same as `predict` of each."""
        if not words:
            return []
        lengths = np.array([len(w) for w in words], np.int32)
        letters = np.zeros((len(words), lengths.max()), np.int32)
        for row, word in zip(letters, words, strict=True):
            row[: len(word)] = word
        state = self.encoder(letters, lengths=lengths)
        last = np.full((len(words), 1), START, np.int32)
        chosen: list[Array] = []
        for _ in range(MAX_PHONEMES):
            logits, state = self.decoder(last, state)
            last = logits.argmax(-1).astype(np.int32)[:, None]
            chosen.append(last[:, 0])
            if all((column == END).any() for column in np.array(chosen).T):
                break
        rows = np.array(chosen).T.tolist()
        return [row[: row.index(END)] if END in row else row for row in rows]


@dataclass(frozen=True, slots=True)
class Timing:
    """Median seconds per word: compiled, compiled with all words in one batch, and g2p-en's numpy algorithm."""

    single: float
    batch: float
    numpy: float
    rounds: int
    words: int


def measure(compiled: Pronouncer, baseline: NumpyPronouncer, words: Sequence[Letters], *, seconds: float = 2.0,
            most: int = 25) -> Timing:
    """Time the three ways in turn, block by block, in one process: 3 to ``most`` rounds, about ``seconds`` in all.

    Before each block there is a pause and one call that is not timed: a library's threads spin for a while after a
    call, and would take the cores from the next.
    """
    ways: tuple[Callable[[], object], ...] = (
        lambda: [compiled.predict(w) for w in words],
        lambda: compiled.predict_batch(words),
        lambda: [baseline.predict(list(w)) for w in words],
    )
    times: list[list[float]] = [[] for _ in ways]
    end = time.perf_counter() + seconds
    while len(times[0]) < 3 or (len(times[0]) < most and time.perf_counter() < end):
        for way, found in zip(ways, times, strict=True):
            time.sleep(0.01)
            way()
            start = time.perf_counter()
            way()
            found.append((time.perf_counter() - start) / len(words))
    single, batch, numpy = map(statistics.median, times)
    return Timing(single, batch, numpy, len(times[0]), len(words))
