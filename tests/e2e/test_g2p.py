"""The trained model of g2p-en: 400 words, word by word and as one batch, as its own code pronounces them."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

from rnngraph.cli import main
from rnngraph.demo import g2p_checkpoint
from rnngraph.demo.g2p import Pronouncer
from rnngraph.demo.g2p_checkpoint import HIDDEN, SHAPES, FloatArray, load_checkpoint, phonemes, spell
from rnngraph.demo.g2p_numpy import NumpyPronouncer
from rnngraph.errors import ImportModelError, InputError, MissingExtraError

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "tests" / "data" / "g2p_en_400.tsv").read_text().splitlines()
TABLE = [(word, said) for word, _, said in (line.partition("\t") for line in LINES)]
GOLDENS = Path(os.environ.get("RNNGRAPH_GOLDENS", ROOT.parent / "shared" / "goldens"))


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, FloatArray]:
    try:
        return load_checkpoint()
    except MissingExtraError as e:
        pytest.skip(str(e))


@pytest.fixture(scope="module")
def pronouncer(checkpoint: dict[str, FloatArray]) -> Pronouncer:
    return Pronouncer(checkpoint)


def test_400_words_as_one_batch(pronouncer: Pronouncer) -> None:
    found = pronouncer.predict_batch([spell(word) for word, _ in TABLE])
    assert [(w, phonemes(p)) for (w, _), p in zip(TABLE, found, strict=True)] == TABLE


def test_400_words_one_by_one(pronouncer: Pronouncer) -> None:
    assert [(word, phonemes(pronouncer.predict(spell(word)))) for word, _ in TABLE] == TABLE


def test_the_baseline_is_the_packages_algorithm(checkpoint: dict[str, FloatArray]) -> None:
    baseline = NumpyPronouncer(checkpoint)
    assert [(word, phonemes(baseline.predict(spell(word)))) for word, _ in TABLE[::10]] == TABLE[::10]


def test_encoder_state(pronouncer: Pronouncer) -> None:
    path = GOLDENS / "g2p_en.npz"
    if not path.is_file():
        pytest.skip("the encoder's recorded states are not here; RNNGRAPH_GOLDENS names their folder")
    with np.load(path) as golden:
        words, states = golden["words"][:40], golden["enc_last"][:40]
    for word, expected in zip(words, states, strict=True):
        state = np.asarray(pronouncer.encoder(np.array([spell(str(word))], np.int32)))
        np.testing.assert_allclose(state[0], expected, rtol=0, atol=1e-5)


def test_the_decoder_makes_one_gru_step(pronouncer: Pronouncer) -> None:
    state = np.zeros((2, HIDDEN), np.float32)
    logits, following = pronouncer.decoder(np.array([[2], [2]], np.int32), state)
    assert logits.shape == (2, 74)
    assert following.shape == (2, HIDDEN)
    np.testing.assert_array_equal(logits[0], logits[1])


def test_command_line(checkpoint: object, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for word, _ in TABLE[:5]]
    assert main(["demo", *words]) == 0
    out, err = capsys.readouterr()
    assert out == "".join(f"{w}\t{p}\n" for w, p in TABLE[:5])
    assert err == ""
    assert main(["demo", "--json", *words]) == 0
    assert json.loads(capsys.readouterr().out) == dict(TABLE[:5])


def test_command_line_without_words(checkpoint: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "recurrent\t" in out
    assert "12 of 12 words have the phonemes" in out
    assert "raise-rnn" in out


@pytest.mark.parametrize(("word", "message"), [
    ("abc1", "spells with the letters a-z, got '1'"),
    ("don't", "got \"'\""),
    ("", "at least one letter"),
    ("a" * 201, "at most 200 letters"),
])
def test_what_is_no_word(word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="word"):
        spell(word)
    assert main(["demo", word]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_case_and_accents_fold() -> None:
    assert spell("Café") == spell("cafe")


def test_files_that_are_not_the_checkpoint(tmp_path: Path) -> None:
    text = tmp_path / "a.npz"
    text.write_text("no archive")
    short = tmp_path / "b.npz"
    np.savez(short, enc_emb=np.zeros(3, np.float32))
    wrong = tmp_path / "c.npz"
    arrays = {n: np.zeros(3 if n == "fc_b" else s, np.float32) for n, s in SHAPES.items()}
    np.savez(wrong, allow_pickle=False, **arrays)
    for path, message in ((text, "not the checkpoint"), (short, "dec_emb"), (wrong, r"fc_b has shape \(3,\)")):
        with pytest.raises(ImportModelError, match=message):
            load_checkpoint(path)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(g2p_checkpoint, "distribution", missing)
    assert main(["demo", "word"]) == 2
    assert "run: python -m pip install g2p-en==2.1.0" in capsys.readouterr().err
