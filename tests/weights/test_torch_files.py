"""Checkpoints of PyTorch are read as data: what torch.save writes comes out, what would run code does not run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnngraph.errors import ImportModelError
from rnngraph.weights import read
from rnngraph.weights.files.pickles import Made, Name, read_pickle


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_all_kinds(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24).reshape(2, 3, 4)
    tensors = {"turned": base.transpose(0, 2), "cut": base[:, 1:, ::2], "flags": base > 3, "none": torch.zeros(0, 3),
               "number": torch.tensor(2.5), "half": torch.ones(2, dtype=torch.float16), "wide": base.double(),
               "parameter": torch.nn.Parameter(torch.ones(2)), "repeated": torch.ones(1).expand(5),
               "byte": base.to(torch.uint8), "small": base.to(torch.int8)}
    brain = {"brain": torch.tensor([1.0, -2.5, 3e38]).bfloat16()}
    found = read(saved(tmp_path / "x.pt", {**tensors, **brain}, _use_new_zipfile_serialization=zipped))
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.detach().numpy())
        assert found[name].dtype == tensor.detach().numpy().dtype
    np.testing.assert_array_equal(found["brain"], brain["brain"].float().numpy())


def test_nested_names_and_modules(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.LSTM(2, 3), torch.nn.BatchNorm1d(3))
    value = {"epoch": 3, "model": module, "more": [torch.ones(1), {"x": torch.ones(2)}], "text": "t", "time": 2.5}
    found = read(saved(tmp_path / "x.pt", value))
    assert set(found) == {f"model.{n}" for n in module.state_dict()} | {"more.0", "more.1.x"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)).eval()
    jit: Any = torch.jit
    jit.save(jit.trace(module, torch.zeros(1, 2)), tmp_path / "x.pt")
    found = read(tmp_path / "x.pt")
    assert set(found) == set(module.state_dict())
    np.testing.assert_array_equal(found["0.weight"], module.state_dict()["0.weight"].numpy())


class Harmful:
    """What runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_run(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "ran"
    value = {"bad": Harmful(mark), "good": torch.ones(2)}
    assert set(read(saved(tmp_path / "x.pt", value, _use_new_zipfile_serialization=zipped))) == {"good"}
    assert not mark.exists()


def test_what_a_pickle_would_make() -> None:
    made = read_pickle(pickle.dumps({"a": [1, 2.5, "x", (None, True)], "b": Harmful(Path("x")), "c": {3}}))
    assert made["a"] == [1, 2.5, "x", (None, True)]
    assert made["c"] == [3]
    assert isinstance(made["b"], Made)
    assert made["b"].function == Name(os.system.__module__, "system")
    assert made["b"].args == ("touch x",)


@pytest.mark.parametrize("protocol", range(6))
def test_protocols(protocol: int) -> None:
    value = {"n": [0, -1, 255, 2**40, -(2**70), 1.5, None, True],
             "t": ("é", b"\0\1" if protocol > 2 else "b", ()), "d": {}}
    assert read_pickle(pickle.dumps(value, protocol)) == value


def archive(pickled: bytes, data: bytes = b"\0" * 16, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as z:
        z.writestr("x/data.pkl", pickled)
        z.writestr("x/data/0", data)
        for name, content in members.items():
            z.writestr(name, content)
    return stream.getvalue()


class _Tensor:
    """Pickled as a tensor at some place of a storage."""

    def __init__(self, *place: Any) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (_Stored(), *self.place, False, {})


class _Stored:
    pass


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", 4) if isinstance(obj, _Stored) else None


def tensor(*place: Any) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, 2).dump({"t": _Tensor(*place)})
    return archive(stream.getvalue())


@pytest.mark.parametrize(("content", "match"), [
    (tensor(0, (5,), (1,)), "reaches beyond its storage of 4"),
    (tensor(2, (3,), (1,)), "reaches beyond"),
    (tensor(0, (2**40, 2**40), (0, 0)), "reaches beyond"),
    (tensor(-1, (1,), (1,)), "no place in its storage"),
    (tensor(0, (2,), (-1,)), "no place in its storage"),
    (tensor(0, (2, 2), (1,)), "no place in its storage"),
    (tensor(0, "ab", (1,)), "no place in its storage"),
    (tensor(0, (1,) * 40, (1,) * 40), "no place in its storage"),
    (archive(b"\x80\x02}q\0(X\x01"), "broken pickle"),
    (archive(b"\x80\x02}q\0"), "pickle"),
    (archive(b"\x80\x02\x82\x01."), "opcode EXT1"),
    (archive(b"\x80\x02u."), "broken pickle"),
    (archive(b"\x80\x02)R."), "broken pickle"),
    (b"PK\x03\x04" + b"x" * 50, "not a readable .npz or .pt"),
    (b"\x80\x02\x8a\x0alf", "broken pickle|without an end"),
    (b"\x80\x02\x8a\x01\x05.", "none that torch.save wrote|broken pickle"),
])
def test_broken_files(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ImportModelError, match=match):
        read(tmp_path / "x.pt")


def test_storages_that_are_missing_or_compressed(tmp_path: Path) -> None:
    good = saved(tmp_path / "x.pt", {"t": torch.ones(64, 64)})
    for change in ("missing", "compressed"):
        stream = io.BytesIO()
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(stream, "w") as new:
            for member in old.infolist():
                if not member.filename.endswith("data/0"):
                    new.writestr(member, old.read(member))
                elif change == "compressed":
                    new.writestr(member.filename, old.read(member), zipfile.ZIP_DEFLATED)
        (tmp_path / "y.pt").write_bytes(stream.getvalue())
        with pytest.raises(ImportModelError, match="not in the archive" if change == "missing" else "compressed"):
            read(tmp_path / "y.pt")


def test_what_contains_itself(tmp_path: Path) -> None:
    value: dict[str, Any] = {"t": torch.ones(2)}
    value["self"] = [value]
    assert set(read(saved(tmp_path / "x.pt", value))) == {"t"}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_tensors_that_are_not_dense(tmp_path: Path) -> None:
    quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    with pytest.raises(ImportModelError, match=r"quantized, sparse and nested|storage of type"):
        read(saved(tmp_path / "x.pt", {"q": quantized}))


def _changed(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        kind, at = rng.integers(0, 3), int(rng.integers(0, len(changed)))
        if kind == 0:
            changed[at] = int(rng.integers(0, 256))
        elif kind == 1:
            del changed[at : at + int(rng.integers(1, 16))]
        else:
            changed[at:at] = bytes(rng.integers(0, 256, 4, np.uint8))
    return bytes(changed)


@pytest.mark.parametrize("zipped", [True, False])
def test_mutated_files(tmp_path: Path, zipped: bool) -> None:
    """Random changes, also inside the pickle alone: arrays or an ImportModelError, never anything else."""
    module = torch.nn.LSTM(2, 3)
    good = saved(tmp_path / "x.pt", {"m": module, "s": module.state_dict()}, _use_new_zipfile_serialization=zipped)
    data, rng = good.read_bytes(), np.random.default_rng(0)
    with zipfile.ZipFile(good) if zipped else io.BytesIO() as opened:
        pickled = opened.read("x/data.pkl") if isinstance(opened, zipfile.ZipFile) else b""
    refused = 0
    for _ in range(400):
        changed = archive(_changed(pickled, rng)) if zipped and rng.integers(0, 2) else _changed(data, rng)
        (tmp_path / "y.pt").write_bytes(changed)
        try:
            read(tmp_path / "y.pt")
        except ImportModelError:
            refused += 1
    assert refused > 100
