"""Files of arrays: there and back, against the safetensors package's format and numpy, MXNet's own files, bad files."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy as package

from rnngraph.errors import ImportModelError
from rnngraph.weights import load, read, save
from tests.weights.support import Array, random_weights, run, same_bits

DATA = Path(__file__).resolve().parent.parent / "data" / "mxnet"
ARRAYS: dict[str, Array] = {
    "lstm/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "half": np.array([1.5, -0.0, np.nan], np.float16),
    "wide": np.asfortranarray(np.arange(4.0).reshape(2, 2)), "none": np.zeros((0, 3), np.float32),
    "scalar": np.array(7), "flags": np.array([True, False]), "file": np.arange(3, dtype=np.uint8),
    "Wh_h\u0303": np.ones(1, np.float32)}


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_there_and_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    save(path, ARRAYS)
    same_bits(read(path), ARRAYS)
    assert all(a.flags.writeable for a in read(path).values())
    first = path.read_bytes()
    save(path, ARRAYS)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_npz_is_numpy_s(tmp_path: Path) -> None:
    save(tmp_path / "w.npz", ARRAYS)
    with np.load(tmp_path / "w.npz", allow_pickle=False) as found:
        same_bits(dict(found), ARRAYS)
    np.savez_compressed(tmp_path / "c.npz", allow_pickle=False, **{n: a for n, a in ARRAYS.items() if n != "file"})
    same_bits(read(tmp_path / "c.npz"), {n: a for n, a in ARRAYS.items() if n != "file"})
    np.savez_compressed(tmp_path / "zeros.npz", allow_pickle=False, z=np.zeros(4_000_000, np.float32))
    assert read(tmp_path / "zeros.npz")["z"].shape == (4_000_000,)


def test_safetensors_is_the_package_s(tmp_path: Path) -> None:
    plain = {n: np.array(a, order="C") for n, a in ARRAYS.items()}
    save(tmp_path / "ours.safetensors", ARRAYS, metadata={"system": "torch"})
    same_bits(dict(sorted(package.load_file(tmp_path / "ours.safetensors").items())), dict(sorted(plain.items())))
    package.save_file(plain, tmp_path / "theirs.safetensors", metadata={"format": "np"})
    same_bits(dict(sorted(read(tmp_path / "theirs.safetensors").items())), dict(sorted(plain.items())))


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    data = struct.pack("<3H", 0x3F80, 0xC000, 0x7F80)  # 1, -2, infinity
    (tmp_path / "b.safetensors").write_bytes(tensors(entry([3], [0, 6], "BF16"), data))
    np.testing.assert_array_equal(read(tmp_path / "b.safetensors")["x"], np.array([1, -2, np.inf], np.float32))


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    w = random_weights("gru", layers=2)
    save(tmp_path / "w.safetensors", w.to("torch", prefix="rnn.") | {"steps": np.array(3), "rnn_other": np.ones(2)})
    assert load(tmp_path / "w.safetensors", "torch", prefix="rnn.").equals(w)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_params_of_mxnet(name: str) -> None:
    """The whole exported Gluon model: embedding, the recurrent layers and, where there is one, a dense layer."""
    arrays = read(DATA / f"gluon_{name}-0000.params")
    with np.load(DATA / f"gluon_{name}_io.npz", allow_pickle=False) as data:
        ids, expected = data["ids"], data["y"]
    symbol = json.loads((DATA / f"gluon_{name}-symbol.json").read_text())
    variables = [node["name"] for node in symbol["nodes"] if node["op"] == "null"]
    assert {n.removeprefix("arg:") for n in arrays} <= set(variables)
    (embedding,) = [a for n, a in arrays.items() if "embedding" in n]
    prefix = next(n for n in arrays if n.endswith("l0_i2h_weight")).removesuffix("l0_i2h_weight")
    (attributes,) = (node["attrs"] for node in symbol["nodes"] if node["op"] == "RNN")
    w = load(arrays, "gluon", prefix=prefix, mode=attributes["mode"])
    assert w.layers == int(attributes["num_layers"])
    x = embedding[ids.astype(int)]
    y = run(w, x.transpose(1, 0, 2))[0].transpose(1, 0, 2)
    dense = [a for n, a in arrays.items() if "dense" in n]
    y = y @ dense[0].T + dense[1] if dense else y
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


def tensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: Any, offsets: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def zipped(content: bytes, name: str = "x.npy", method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npy_of(shape: str, data: bytes = b"", descr: str = "'<f4'") -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}", data)


def pickled() -> bytes:
    out = io.BytesIO()
    np.savez(out, allow_pickle=True, x=np.array([{"a": 1}], dtype=object))
    return out.getvalue()


def bomb() -> bytes:
    return zipped(npy_of("(50000000,)", b"\0" * 200_000_000),
                  method=zipfile.ZIP_DEFLATED)


HUGE = 2**62
BAD: dict[str, tuple[Callable[[], bytes] | bytes, str]] = {
    "empty": (b"", "expected the length of a header in 8 bytes, the file has 0"),
    "cut off": (b"\x10\0\0", "in 8 bytes, the file has 3"),
    "huge header": (tensors(b"{}", length=2**63), "the header is said to have"),
    "header beyond the file": (tensors(b"{}", length=100), "the header is said to have 100 bytes; the file has 10"),
    "no json": (tensors(b"hello"), "the header is no JSON"),
    "no text": (tensors(b"\xff\xfe{}"), "the header is no JSON"),
    "deep json": (tensors(b"[" * 200_000), "the header is no JSON"),
    "huge number": (tensors(b'{"x":' + b"9" * 6000 + b"}"), "the header is no JSON"),
    "a list": (tensors([]), "no JSON object"),
    "twice": (tensors(b'{"x":1,"x":2}'), "has 'x' twice"),
    "entry": (tensors({"x": 3}), "expected dtype, shape and data_offsets"),
    "dtype": (tensors(entry([1], [0, 1], "F8_E4M3")), "the dtype 'F8_E4M3' is none of"),
    "dtype of a kind": (tensors(entry([1], [0, 1], ["F32"])), "is none of"),
    "negative shape": (tensors(entry([-1, -1], [0, 4])), "expected a shape of at most 32 sizes >= 0"),
    "fractional shape": (tensors(entry([1.0], [0, 4])), "expected a shape"),
    "true as a size": (tensors(entry([True], [0, 4])), "expected a shape"),
    "rank": (tensors(entry([1] * 33, [0, 4]), b"1234"), "expected a shape of at most 32"),
    "huge shape": (tensors(entry([HUGE, HUGE, HUGE], [0, 4])), "does not fill the bytes 0..4"),
    "empty and huge": (tensors(entry([0, HUGE, 4], [0, 0])), "no array can have the shape"),
    "offsets": (tensors(entry([1], [0])), "expected data_offsets"),
    "negative offsets": (tensors(entry([1], [-4, 0])), "expected data_offsets"),
    "backwards": (tensors(entry([0], [4, 0])), "does not fill the bytes 4..0"),
    "out of range": (tensors(entry([HUGE // 4], [0, HUGE])), "the arrays have"),
    "gap": (tensors(entry([1], [4, 8]), b"12345678"), "leaves a gap before it"),
    "overlap": (tensors(entry([1], [0, 4]) | {"y": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]}}, b"123456"),
                "overlaps another"),
    "trailing": (tensors(entry([1], [0, 4]), b"12345"), "the arrays have 4 bytes, the file has 5"),
    "bool": (tensors(entry([1], [0, 1], "BOOL"), b"\x07"), "a BOOL is 0 or 1"),
    "zip cut off": (zipped(npy("{}"))[:40], "not a readable .npz"),
    "zip of text": (zipped(b"hello", "readme.txt"), "is no .npy"),
    "zip method": (zipped(npy("{}"), method=zipfile.ZIP_BZIP2), "compressed by a method"),
    "pickle": (pickled, "pickled objects are never loaded"),
    "no npy": (zipped(b"hello world"), "not a readable .npz"),
    "npy header": (zipped(npy("{'descr': '<f4'}")), "not a readable .npz"),
    "npy program": (zipped(npy("__import__('os').abort()")), "not a readable .npz"),
    "npy shape": (zipped(npy_of("(-1,)", b"1234")), "sizes >= 0"),
    "npy huge": (zipped(npy_of(f"({HUGE},)")), "more bytes than"),
    "npy empty and huge": (zipped(npy_of(f"(0, {HUGE}, 4)")), "no array can have the shape"),
    "npy short": (zipped(npy_of("(2,)", b"1234")), "does not fill"),
    "npy long": (zipped(npy_of("(1,)", b"123456")), "does not fill"),
    "npy record": (zipped(npy_of("()", b"1234", "[('a', '<f4')]")), "expected numbers"),
    "bomb": (bomb, "more than 100 times as many"),
    "params cut off": ((DATA / "gluon_lstm-0000.params").read_bytes()[:700], "but the file ends at 700"),
    "params count": (struct.pack("<QQQ", 0x112, 0, 2**60), "arrays do not fit into 24 bytes"),
    "params shape": (struct.pack("<QQQIiiqqiii", 0x112, 0, 1, 0xF993FAC9, 0, 2, HUGE, HUGE, 1, 0, 0), "file ends at"),
    "params empty and huge": (struct.pack("<QQQIiiqqiii", 0x112, 0, 1, 0xF993FAC9, 0, 2, 0, HUGE, 1, 0, 0),
                              "no array can have the shape"),
    "params negative": (struct.pack("<QQQIiiqiii", 0x112, 0, 1, 0xF993FAC9, 0, 1, -4, 1, 0, 0), "expected sizes >= 0"),
    "params sparse": (struct.pack("<QQQIii", 0x112, 0, 1, 0xF993FAC9, 1, 0), "is sparse"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    path = tmp_path / "bad"
    path.write_bytes(content() if callable(content) else content)
    start = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(ImportModelError) as found:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(found.value)
    assert str(found.value).startswith(f"{path}: ")
    assert len(str(found.value)) < 500 + len(str(path))
    assert peak < 64 * 2**20
    assert time.perf_counter() - start < 5


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with bytes changed, cut out, put in or moved."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        at, width = int(rng.integers(0, len(data) + 1)), int(rng.integers(1, 24))
        kind = int(rng.integers(0, 6))
        if kind == 0:
            data[at : at + width] = rng.bytes(width)
        elif kind == 1:
            del data[at : at + width]
        elif kind == 2:
            data[at:at] = rng.bytes(width)
        elif kind == 3:
            data[at : at + 8] = struct.pack("<q", int(rng.choice([0, -1, 1, 2**31, 2**62, 255])))
        elif kind == 4:
            del data[at:]
        elif at < len(data):
            data[at] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def test_mutated_files(tmp_path: Path) -> None:
    """Whatever the bytes: arrays or an ImportModelError, quickly and in little memory."""
    rng = np.random.default_rng(20261124)
    seeds = []
    for suffix in (".safetensors", ".npz"):
        save(tmp_path / f"seed{suffix}", ARRAYS)
        seeds.append((tmp_path / f"seed{suffix}").read_bytes())
    seeds.append((DATA / "gluon_rnn-0000.params").read_bytes())
    np.savez_compressed(tmp_path / "seed.npz", allow_pickle=False, x=np.arange(40.0))
    seeds.append((tmp_path / "seed.npz").read_bytes())
    path = tmp_path / "mutated"
    outcomes = {True: 0, False: 0}
    tracemalloc.start()
    try:
        for number in range(1200):
            path.write_bytes(mutated(seeds[number % len(seeds)], rng))
            start = time.perf_counter()
            try:
                outcomes[all(isinstance(a, np.ndarray) for a in read(path).values())] += 1
            except ImportModelError:
                outcomes[False] += 1
            assert time.perf_counter() - start < 2
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
    assert min(outcomes.values()) > 50


@pytest.mark.parametrize(("name", "arrays", "metadata", "message"), [
    ("w.bin", {}, None, "expected a name that ends in .safetensors, .npz or .params"),
    ("w.npz", {}, {"a": "b"}, "an .npz has no place for metadata"),
    ("w.npz", {"x": np.array([None])}, None, "expected numbers of at most 8 bytes, got object"),
    ("w.npz", {"x": "text"}, None, "expected numbers"),
    ("w.safetensors", {"": np.ones(1)}, None, "cannot have the name ''"),
    ("w.safetensors", {"__metadata__": np.ones(1)}, None, "cannot have the name"),
])
def test_what_cannot_be_saved(tmp_path: Path, name: str, arrays: Any, metadata: Any, message: str) -> None:
    with pytest.raises(ImportModelError, match=message):
        save(tmp_path / name, arrays, metadata)
    assert list(tmp_path.iterdir()) == []


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing.npz")
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "no" / "w.npz", {})
