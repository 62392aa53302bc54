"""The HDF5 reader: what h5py writes is read as h5py reads it; broken files are an ImportModelError, soon."""

from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rnngraph.errors import ImportModelError
from rnngraph.weights import read
from rnngraph.weights.files.hdf5 import Dataset, Group, open_hdf5
from tests.weights.hdf5_files import LIBVERS, made, mutant, small


def text(value: Any) -> Any:
    """What h5py gives, with str for bytes."""
    value = np.asarray(value.decode() if isinstance(value, bytes) else value)
    if value.dtype.kind in "SO" and value.size:
        return np.vectorize(lambda s: s.decode() if isinstance(s, bytes) else s, otypes=[object])(value)
    return value


def same(ours: Any, theirs: Any, name: str) -> None:
    theirs = text(theirs)
    assert ours.shape == theirs.shape, name
    assert bool((ours == theirs).all()), name
    if theirs.dtype.kind in "iuf":
        assert ours.dtype == theirs.dtype.newbyteorder("="), name


def compare(ours: Group | Dataset, theirs: Any) -> int:
    """The number of arrays compared, below here."""
    assert set(ours.attrs) == set(theirs.attrs)
    for name in theirs.attrs:
        same(ours.attrs[name], theirs.attrs[name], name)
    if isinstance(ours, Dataset):
        assert ours.shape == theirs.shape
        same(ours.read(), theirs[()], theirs.name)
        return 1
    assert set(ours.names) == set(theirs)
    return sum(compare(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("track_order", [False, True])
@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize(("attributes", "groups"), [(2, 3), (20, 25), (150, 250)])
def test_what_h5py_writes_is_read_alike(libver: str, track_order: bool, attributes: int, groups: int) -> None:
    data = made(libver, track_order, attributes, groups)
    with h5py.File(io.BytesIO(data), "r") as theirs:
        assert compare(open_hdf5(data), theirs) == groups + 13


def test_read_gives_the_arrays_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    path.write_bytes(small())
    arrays = read(path)
    assert list(arrays) == ["lstm/bias", "lstm/kernel"]
    assert arrays["lstm/kernel"].tolist() == [[0, 1, 2], [3, 4, 5]]
    path.write_bytes(small()[:900])
    with pytest.raises(ImportModelError, match=r"w\.h5: .*outside of the file of 900 bytes"):
        read(path)


def test_a_user_block_in_front_is_skipped() -> None:
    memory = io.BytesIO()
    with h5py.File(memory, "w", userblock_size=1024) as f:
        f["x"] = np.arange(3)
    assert open_hdf5(memory.getvalue()).dataset("x").read().tolist() == [0, 1, 2]


def test_links_that_lead_away_are_left_out() -> None:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as f:
        f["x"] = np.arange(3)
        f["soft"], f["outside"] = h5py.SoftLink("/x"), h5py.ExternalLink("/etc/passwd", "/y")
    assert open_hdf5(memory.getvalue()).names == ["x"]


def test_elements_in_other_files_are_refused() -> None:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as f:
        f.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)])
    with pytest.raises(ImportModelError, match="dataset '/x': its elements are in other files"):
        open_hdf5(memory.getvalue()).dataset("x").read()


@pytest.mark.parametrize(("value", "says"), [
    (np.zeros(2, [("a", "f4")]), "elements are compound"), (np.zeros(2, "c8"), "elements are compound"),
])
def test_types_that_are_not_read_say_so(value: Any, says: str) -> None:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as f:
        f["x"] = value
        f.attrs["odd"] = value
    assert open_hdf5(memory.getvalue()).attrs == {}
    with pytest.raises(ImportModelError, match=says):
        open_hdf5(memory.getvalue()).dataset("x").read()


def test_raw_bytes_are_no_numbers(tmp_path: Path) -> None:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as f:
        f["x"] = np.array([b"ab", b"cd"], "V2")
        f.attrs["odd"] = np.void(b"ab")
    root = open_hdf5(memory.getvalue())
    assert root.attrs == {}
    assert root.dataset("x").read().view(np.uint16).tolist() == [0x6261, 0x6463]
    (tmp_path / "x.h5").write_bytes(memory.getvalue())
    assert read(tmp_path / "x.h5") == {}


def test_a_filter_that_is_not_read_says_so() -> None:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as f:
        f.create_dataset("x", data=np.zeros((8, 8)), compression="lzf")
    with pytest.raises(ImportModelError, match="the filter 32000"):
        open_hdf5(memory.getvalue()).dataset("x").read()


def test_members_that_are_not_there() -> None:
    group = open_hdf5(small())
    assert "lstm/kernel" in group
    assert "lstm/kernel/x" not in group
    with pytest.raises(ImportModelError, match="the group '/lstm' has no 'gamma'; it has bias, kernel"):
        group["lstm/gamma"]
    with pytest.raises(ImportModelError, match="expected a dataset"):
        group.dataset("lstm")
    with pytest.raises(ImportModelError, match="expected a group"):
        group.group("lstm/kernel")


def test_huge_claims_take_no_memory() -> None:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as f:
        f.create_dataset("x", shape=(2**20, 2**20), dtype="f8", chunks=(1024, 1024))
    tracemalloc.start()
    with pytest.raises(ImportModelError, match="far more bytes than a file of"):
        open_hdf5(memory.getvalue()).dataset("x").read()
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_group_in_itself_is_found() -> None:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as f:
        f.create_group("a")["b"] = f["/"]
    with pytest.raises(ImportModelError, match="contains itself"):
        list(open_hdf5(memory.getvalue()).datasets())


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", bytes(4096)])
def test_what_is_no_hdf5(data: bytes) -> None:
    with pytest.raises(ImportModelError):
        open_hdf5(data)


def read_all(data: bytes) -> None:
    """Read everything that there is."""
    root = open_hdf5(data)
    stack: list[Group | Dataset] = [root]
    while stack:
        node = stack.pop()
        assert node.attrs is not None
        if isinstance(node, Dataset):
            node.read()
        else:
            stack += [node[name] for name in node.names]


def fuzz(data: bytes, count: int, seed: int) -> int:
    """How many of the mutants were refused; none may do anything else than be read, or take long."""
    rng, refused = random.Random(seed), 0
    for i in range(count):
        broken, start = mutant(data, rng), time.process_time()
        try:
            read_all(broken)
        except ImportModelError:
            refused += 1
        assert time.process_time() - start < 5, (seed, i)
    return refused


FILES = [small(libver, order) for libver in LIBVERS for order in (False, True)]


@pytest.mark.parametrize("which", range(len(FILES)))
def test_broken_files_are_refused_or_read(which: int) -> None:
    assert fuzz(FILES[which], 150, which) > 30


@pytest.mark.slow
@pytest.mark.parametrize("which", range(len(FILES)))
def test_many_broken_files_are_refused_or_read(which: int) -> None:
    assert fuzz(FILES[which], 5000, 100 + which) > 1000


@pytest.mark.parametrize("length", range(0, 2000, 37))
def test_files_cut_off_anywhere(length: int) -> None:
    data = FILES[0]
    with pytest.raises(ImportModelError):
        read_all(data[:length])


@pytest.mark.parametrize("shape", [(2**56, 0), (0, 2**40)])
def test_an_empty_array_of_huge_dims_takes_no_memory(shape: tuple[int, int]) -> None:
    data = FILES[4]
    # the shape of "bias", as it is and as it may become; a fixed array lists its chunks
    assert data.count(struct.pack("<QQ", 8, 4)) == 2
    broken = data.replace(struct.pack("<QQ", 8, 4), struct.pack("<QQ", *shape))
    tracemalloc.start()
    read_all(broken)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
