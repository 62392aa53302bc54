"""The trained weights of g2p-en 2.1.0 (Apache-2.0, Kyubyong Park and Jongseok Kim), read from the installed
distribution's files. The package itself is never imported: it would load a tagger and download corpora."""

from __future__ import annotations

import unicodedata
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnngraph.errors import ImportModelError, InputError, MissingExtraError

FloatArray = NDArray[np.float32]

GRAPHEMES = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
PHONEMES = ("<pad>", "<unk>", "<s>", "</s>", *(
    "AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 "
    "ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH "
    "T TH UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH").split())
WORD_END = GRAPHEMES.index("</s>")
START, END = PHONEMES.index("<s>"), PHONEMES.index("</s>")
HIDDEN = 256
MAX_PHONEMES = 20  # the package stops there
MAX_LETTERS = 200

FILE = "g2p_en/checkpoint20.npz"
INSTALL = "python -m pip install g2p-en==2.1.0"
_GATES = 3 * HIDDEN
SHAPES: Mapping[str, tuple[int, ...]] = {
    "enc_emb": (len(GRAPHEMES), HIDDEN), "dec_emb": (len(PHONEMES), HIDDEN),
    "enc_w_ih": (_GATES, HIDDEN), "enc_w_hh": (_GATES, HIDDEN), "enc_b_ih": (_GATES,), "enc_b_hh": (_GATES,),
    "dec_w_ih": (_GATES, HIDDEN), "dec_w_hh": (_GATES, HIDDEN), "dec_b_ih": (_GATES,), "dec_b_hh": (_GATES,),
    "fc_w": (len(PHONEMES), HIDDEN), "fc_b": (len(PHONEMES),),
}


def checkpoint_path() -> Path:
    """Where the installed g2p-en keeps its checkpoint; without it MissingExtraError with the pip command."""
    try:
        files = distribution("g2p-en").files or ()
    except PackageNotFoundError:
        raise MissingExtraError("the demo needs the trained model of the package g2p-en, which is not "
                                f"installed; run: {INSTALL}") from None
    for file in files:
        if file.as_posix() == FILE:
            return Path(str(file.locate()))
    raise MissingExtraError(f"the installed g2p-en has no {FILE}; run: {INSTALL} --force-reinstall")


def load_checkpoint(path: Path | None = None) -> dict[str, FloatArray]:
    """The arrays of the checkpoint: gates in the order r, z, n, rows are gates, as PyTorch's GRU stores them.

    ImportModelError when the file is not that checkpoint.
    """
    path = path or checkpoint_path()
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name], np.float32) for name in SHAPES}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as e:
        raise ImportModelError(f"{path}: not the checkpoint of g2p-en 2.1.0: {e}") from None
    for name, shape in SHAPES.items():
        if arrays[name].shape != shape:
            raise ImportModelError(f"{path}: {name} has shape {arrays[name].shape}, expected {shape}")
    return arrays


def spell(word: str) -> list[int]:
    """Grapheme numbers of ``word`` with the end mark. Upper case and accents fold to a-z, as in g2p-en.

    InputError for an empty word, for other characters and for more than 200 letters.

    >>> spell("Abé")
    [3, 4, 7, 2]
    """
    folded = "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn").lower()
    if not folded:
        raise InputError("a word needs at least one letter, got an empty one")
    if len(folded) > MAX_LETTERS:
        raise InputError(f"a word has at most {MAX_LETTERS} letters, got {len(folded)}")
    if bad := [c for c in folded if not "a" <= c <= "z"]:
        raise InputError(f"word {word!r}: the model spells with the letters a-z, got {bad[0]!r}; "
                         "write numbers and signs as words")
    return [GRAPHEMES.index(c) for c in folded] + [WORD_END]


def phonemes(numbers: list[int]) -> str:
    """``AH0 B AO1 ...`` for phoneme numbers."""
    return " ".join(PHONEMES[n] for n in numbers)
