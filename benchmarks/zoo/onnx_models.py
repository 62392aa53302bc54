"""ONNX files in packages: silero-vad in six spellings, faster-whisper's copy, thai2rom, deepcut."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from benchmarks.zoo.case import GOLDENS, Arrays, Case, Entry, Run
from benchmarks.zoo.fetch import Package
from rnngraph.ir import Array

SILERO = Package("silero-vad", "6.2.3", "silero_vad-6.2.3-py3-none-any.whl", "7b7f5436cfcb")
SILERO_SOURCE = Package("silero-vad", "6.2.3", "silero_vad-6.2.3.tar.gz", "d7a23b09202b")
WHISPER = Package("faster-whisper", "1.2.1", "faster_whisper-1.2.1-py3-none-any.whl", "79a66ad50688")
THAI = Package("pythainlp", "5.4.0", "pythainlp-5.4.0-py3-none-any.whl", "9239753df877")
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


def golden(file: str) -> dict[str, Array]:
    """Recorded outputs, where they are at hand."""
    path = GOLDENS / f"{file}.npz"
    return dict(np.load(path, allow_pickle=False)) if path.is_file() else {}


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
    recorded = golden("silero_vad")
    known = {"speech": recorded[member]} if member in recorded else {}
    one = {"input": chunks[:1], "state": np.zeros((2, 1, 128), np.float32), **extra}
    return Case(member, path, one, partial(_streamed, chunks, extra), known, path.read_bytes(), _spoken)


def _sequence(name: str, package: Package, member: str, record: str, offline: bool) -> Case:
    path = package.member(member, offline=offline)
    chunks, recorded = speech(offline), golden("silero_vad")
    known = {"speech": recorded[record]} if record in recorded else {}
    zero = np.zeros((1, 1, 128), np.float32)
    return Case(name, path, {"input": chunks[:100], "h": zero, "c": zero}, partial(_whole, chunks), known,
                path.read_bytes(), _spoken)


def _thai_encoder(offline: bool) -> Case:
    path, recorded = THAI.member("thai2rom_encoder.onnx", offline=offline), golden("thai2rom")
    ids = [recorded[f"ids{i}"] for i in range(38)] if recorded else [np.arange(n)[None] % 60 + 3 for n in (4, 9, 13)]

    def call(words: Array) -> Arrays:
        return {"input_tensor": words.astype(np.int64), "input_lengths": np.array([words.shape[1]], np.int32)}

    def drive(run: Run) -> Arrays:
        outs = [run(call(w)) for w in ids]
        return {f"enc{i}": np.asarray(o["encoder_outputs"]) for i, o in enumerate(outs)}

    known = {f"enc{i}": recorded[f"enc{i}"] for i in range(len(ids)) if recorded}
    return Case("thai2rom_encoder", path, call(ids[1]), drive, known, path.read_bytes())


def _thai_decoder(offline: bool) -> Case:
    """Greedy decoding from the encoder's outputs; what is compared are the logits of every step."""
    path, recorded = THAI.member("thai2rom_decoder.onnx", offline=offline), golden("thai2rom")
    rng = np.random.default_rng(0)
    encoded = [recorded[f"enc{i}"] for i in range(38)] if recorded else [
        rng.standard_normal((1, n, 256)).astype(np.float32) * 0.3 for n in (4, 9)]
    states = [np.concatenate(list(recorded[f"encH{i}"]), -1)[None] if recorded else
              np.zeros((1, 1, 256), np.float32) for i in range(len(encoded))]

    def call(i: int, letter: int, state: Array) -> dict[str, Any]:
        steps = encoded[i].shape[1]
        return {"decoder_input": np.array([[letter]], np.int32), "decoder_hidden_1": state,
                "encoder_outputs": encoded[i], "mask": np.ones((1, steps), np.float32)}

    def drive(run: Run) -> Arrays:
        found: dict[str, Array] = {}
        for i, state in enumerate(states):
            letter, rows = 1, []
            for _ in range(20):
                out = run(call(i, letter, state))
                logits, state = np.asarray(out["decoder_output"]).reshape(-1), np.asarray(out["decoder_hidden_2"])
                rows.append(logits)
                letter = int(logits.argmax())
                if letter == 2:
                    break
            found[f"logits{i}"] = np.stack(rows)
        return found

    return Case("thai2rom_decoder", path, call(0, 1, states[0]), drive, {}, path.read_bytes(),
                lambda outputs: [a.argmax(-1).tolist() for a in outputs.values()])


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
