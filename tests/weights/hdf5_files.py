"""HDF5 files of every kind that the reader reads, written by h5py; and a mutator that breaks files."""

from __future__ import annotations

import io
import random
import struct
from typing import Any

import h5py
import numpy as np

LIBVERS = ("earliest", "v108", "latest")
WORDS = (0, 1, 2, 7, 8, 0xFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)


def made(libver: Any = "earliest", track_order: bool = False, attributes: int = 3, groups: int = 2) -> bytes:
    """A file with groups, attributes and datasets of all kinds."""
    rng = np.random.default_rng(0)
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=libver, track_order=track_order) as f:
        for i in range(attributes):
            f.attrs[f"a{i}"] = rng.standard_normal(3) if i % 3 else f"text {i}"
        f.attrs["names"] = [b"abc", b"defgh"]
        f.attrs["any"] = np.array(["x", "yyy"], dtype=h5py.string_dtype())
        f.attrs["none"] = np.array([])
        f.attrs["bytes"] = b"some"
        f.attrs["number"] = 3
        for i in range(groups):
            f.create_group(f"g{i}", track_order=track_order)["w"] = rng.standard_normal((i + 1, 3)).astype("f4")
        g = f.create_group("d")
        g["f8"], g["i1"], g["f2"] = rng.standard_normal((2, 3)), np.arange(5, dtype="i1"), np.arange(3, dtype="f2")
        g["be"], g["flag"], g["scalar"] = np.arange(4, dtype=">f4"), np.array([True, False]), np.float32(3)
        w = rng.standard_normal((30, 17)).astype("f4")
        g.create_dataset("packed", data=w, compression="gzip", shuffle=True)
        g.create_dataset("summed", data=w[:6], chunks=(4, 5), compression="gzip", fletcher32=True)
        g.create_dataset("chunks", data=np.arange(60, dtype="i4").reshape(6, 10), chunks=(4, 7))
        g.create_dataset("one", data=np.arange(10, dtype="i4"), chunks=(10,), compression="gzip")
        g.create_dataset("fill", shape=(3, 4), dtype="f4", fillvalue=2.5)
        g["str"], g["fixed"] = ["a", "bb"], np.array([b"q", b"rs"])
    return memory.getvalue()


def small(libver: Any = "earliest", track_order: bool = False) -> bytes:
    """A file as small as files with one packed layer are."""
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=libver, track_order=track_order) as f:
        f.attrs["layer_names"] = [b"lstm", b"dense"]
        g = f.create_group("lstm")
        g.attrs["weight_names"] = np.array(["kernel", "bias"], dtype=h5py.string_dtype())
        g["kernel"] = np.arange(6, dtype="f4").reshape(2, 3)
        g.create_dataset("bias", data=np.zeros((8, 4), "f4"), chunks=(3, 4), compression="gzip", shuffle=True)
        for i in range(10 if track_order else 0):
            g.attrs[f"a{i}"], f[f"x{i}"] = i, np.float32(i)
    return memory.getvalue()


def mutant(data: bytes, rng: random.Random) -> bytes:
    """The file with one to four things broken: cut off, bits or words changed, pieces moved or repeated."""
    broken = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        n = len(broken)
        at = rng.randrange(n)
        match rng.randrange(7):
            case 0:
                del broken[at : n if rng.random() < 0.3 else at + rng.randrange(1, 9)]
            case 1:
                broken[at] ^= 1 << rng.randrange(8)
            case 2:
                broken[at] = rng.randrange(256)
            case 3:
                at &= ~7
                broken[at : at + 8] = struct.pack("<Q", rng.choice((*WORDS, rng.randrange(n), rng.randrange(n) & ~7)))
            case 4:
                width = rng.choice((2, 4))
                broken[at : at + width] = struct.pack("<Q", rng.choice(WORDS))[:width]
            case 5:
                source, length = rng.randrange(n), rng.choice((8, 24, 64))
                broken[at : at + length] = broken[source : source + length]
            case _:
                pointers = [i for i in range(0, n - 7, 8) if 0 < int.from_bytes(broken[i : i + 8], "little") < n]
                if pointers:  # one pointer becomes another: cycles, objects of another kind
                    a, b = rng.choice(pointers), rng.choice(pointers)
                    broken[a : a + 8] = broken[b : b + 8]
        if not broken:
            return b""
    return bytes(broken)
