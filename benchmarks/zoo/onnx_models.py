"""ONNX files in packages: silero-vad in six spellings, faster-whisper's copy, thai2rom, deepcut."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from benchmarks.zoo.case import RECORDED, Arrays, Case, Entry, Run
from benchmarks.zoo.fetch import Package
from benchmarks.zoo.runtime import session
from rnngraph.ir import Array

SILERO = Package("silero-vad", "6.2.3", "silero_vad-6.2.3-py3-none-any.whl", "7b7f5436cfcb")
SILERO_SOURCE = Package("silero-vad", "6.2.3", "silero_vad-6.2.3.tar.gz", "d7a23b09202b")
WHISPER = Package("faster-whisper", "1.2.1", "faster_whisper-1.2.1-py3-none-any.whl", "79a66ad50688")
THAI = Package("pythainlp", "5.4.0", "pythainlp-5.4.0-py3-none-any.whl", "9239753df877")
PAD, START, END, MOST_LETTERS = 0, 1, 2, 60  # of thai2rom's letters; a word that it never ends was cut after 60
CHUNK, BEFORE = 512, 64  # samples at 16 kHz: new ones, and those of the chunk before


@cache
def speech(offline: bool) -> Array:
    """A minute of speech as chunks of 64 + 512 samples, [1875, 576]."""
    with wave.open(io.BytesIO(SILERO_SOURCE.member("test.wav", offline=offline).read_bytes())) as file:
        assert file.getframerate() == 16000
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768.0
    count = len(samples) // CHUNK
    padded = np.concatenate([np.zeros(BEFORE, np.float32), samples[: count * CHUNK]])
    return np.stack([padded[i * CHUNK : (i + 1) * CHUNK + BEFORE] for i in range(count)])


def recorded(file: str) -> dict[str, Array]:
    """Recorded outputs (tests/data/README.md)."""
    with np.load(RECORDED / f"{file}.npz", allow_pickle=False) as data:
        return dict(data)


def _streamed(chunks: Array, extra: Arrays, run: Run) -> Arrays:
    """Chunk by chunk with the state fed back."""
    state, found = np.zeros((2, 1, 128), np.float32), []
    for chunk in chunks:
        out = run({"input": chunk[None], "state": state, **extra})
        state = np.asarray(out["stateN"])
        found.append(np.asarray(out["output"]).reshape(-1))
    return {"speech": np.concatenate(found), "state": state}


def _whole(chunks: Array, run: Run) -> Arrays:
    zero = np.zeros((1, 1, 128), np.float32)
    out = run({"input": chunks, "h": zero, "c": zero})
    return {"speech": np.asarray(out["speech_probs"]).reshape(-1), "hn": out["hn"], "cn": out["cn"]}


def _spoken(outputs: Arrays) -> list[bool]:
    return [bool(p >= 0.5) for p in outputs["speech"]]


def _silero(member: str, rate: bool, offline: bool) -> Case:
    path = SILERO.member(f"{member}.onnx", offline=offline)
    chunks = speech(offline)
    extra = {"sr": np.array(16000)} if rate else {}
    known = {"speech": recorded("silero_vad")[member]}
    one = {"input": chunks[:1], "state": np.zeros((2, 1, 128), np.float32), **extra}
    return Case(member, path, one, partial(_streamed, chunks, extra), known, path.read_bytes(), _spoken)


def _sequence(name: str, package: Package, member: str, record: str, offline: bool) -> Case:
    path = package.member(member, offline=offline)
    chunks = speech(offline)
    known = {"speech": recorded("silero_vad")[record]}
    zero = np.zeros((1, 1, 128), np.float32)
    return Case(name, path, {"input": chunks[:100], "h": zero, "c": zero}, partial(_whole, chunks), known,
                path.read_bytes(), _spoken)


def _words() -> list[Array]:
    """The letters of 38 words."""
    data = recorded("thai2rom")
    return [data[f"ids{i}"] for i in range(sum(n.startswith("ids") for n in data))]


def _encode(run: Run, word: Array) -> Arrays:
    return run({"input_tensor": word.astype(np.int64), "input_lengths": np.array([word.shape[1]], np.int32)})


def _thai_encoder(offline: bool) -> Case:
    path, words = THAI.member("thai2rom_encoder.onnx", offline=offline), _words()

    def drive(run: Run) -> Arrays:
        outs = [_encode(run, w) for w in words]
        return {f"{n}{i}": np.asarray(o[n]) for i, o in enumerate(outs)
                for n in ("encoder_outputs", "encoder_hidden_1")}

    one: Arrays = {"input_tensor": words[1].astype(np.int64), "input_lengths": np.array([words[1].shape[1]], np.int32)}
    return Case("thai2rom_encoder", path, one, drive, {}, path.read_bytes())


def _thai_decoder(offline: bool) -> Case:
    """Letter by letter, each the likeliest, as the package decodes; what is compared are the logits of all steps.

    The encoder in front of it is ONNX Runtime's, so that errors are the decoder's own.
    """
    path, words, logits = THAI.member("thai2rom_decoder.onnx", offline=offline), _words(), recorded("thai2rom")
    encoder = session(THAI.member("thai2rom_encoder.onnx", offline=offline).read_bytes(), 1)
    encoded = [_encode(encoder, w) for w in words]

    def call(i: int, letter: int, state: Array) -> dict[str, Any]:
        return {"decoder_input": np.array([[letter]], np.int32), "decoder_hidden_1": state,
                "encoder_outputs": encoded[i]["encoder_outputs"], "mask": (words[i] != PAD).astype(np.float32)}

    def first(i: int) -> Array:
        return np.concatenate(list(encoded[i]["encoder_hidden_1"]), 1)[None]

    def drive(run: Run) -> Arrays:
        found: dict[str, Array] = {}
        for i in range(len(words)):
            letter, state, rows = START, first(i), list[Array]()
            while letter != END and len(rows) < MOST_LETTERS:
                out = run(call(i, letter, state))
                rows.append(np.asarray(out["decoder_output"]).reshape(-1))
                state, letter = np.asarray(out["decoder_hidden_2"]), int(rows[-1].argmax())
            found[f"logits{i}"] = np.stack(rows)
        return found

    return Case("thai2rom_decoder", path, call(0, START, first(0)), drive,
                {n: a for n, a in logits.items() if n.startswith("logits")}, path.read_bytes(),
                lambda outputs: {n: a.argmax(-1).tolist() for n, a in outputs.items()})


def _deepcut(offline: bool) -> Case:
    path = THAI.member("deepcut.onnx", offline=offline)
    rng = np.random.default_rng(0)
    inputs = {n: rng.integers(0, 12, (50, 21)).astype(np.float32) for n in ("input_1", "input_2")}
    return Case("deepcut", path, inputs, lambda run: dict(run(inputs)), {}, path.read_bytes())


def _entry(name: str, load: Callable[[bool], Case]) -> Entry:
    return Entry(name, load)


ENTRIES = (
    *(_entry(m, partial(_silero, m, rate)) for m, rate in (
        ("silero_vad", True), ("silero_vad_16k_op15", True), ("silero_vad_op18_ifless", True),
        ("silero_vad_half", False), ("silero_vad_openvino_16k", False))),
    _entry("silero_vad_16k_sequence", partial(
        _sequence, "silero_vad_16k_sequence", SILERO, "silero_vad_16k_sequence.onnx", "sequence")),
    _entry("faster_whisper_v6", partial(
        _sequence, "faster_whisper_v6", WHISPER, "silero_vad_v6.onnx", "faster_whisper_v6")),
    _entry("thai2rom_encoder", _thai_encoder),
    _entry("thai2rom_decoder", _thai_decoder),
    _entry("deepcut", _deepcut),
)
