"""Checkpoints of PyTorch to mutate, and mutations of the pickle within."""

from __future__ import annotations

import io
import random
import zipfile
from typing import Any

import torch

from tests.fuzz.mutate import mutated


def seeds() -> list[bytes]:
    """State dicts, whole modules and TorchScript, in the zip and in the older form."""
    module = torch.nn.Sequential(torch.nn.LSTM(2, 3), torch.nn.BatchNorm1d(3))
    values = [module.state_dict(), module, {"epoch": 1, "state_dict": module.state_dict(), "more": [torch.ones(1)]},
              {"half": torch.ones(2).half(), "brain": torch.ones(3).bfloat16(), "turned": torch.ones(2, 3).t()}]
    found = [_saved(v, zipped) for v in values for zipped in (True, False)]
    jit: Any = torch.jit
    stream = io.BytesIO()
    jit.save(jit.trace(torch.nn.Linear(2, 3).eval(), torch.zeros(1, 2)), stream)
    return [*found, stream.getvalue()]


def _saved(value: Any, zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def mutated_pickle(data: bytes, rng: random.Random, pool: list[bytes]) -> bytes:
    """The archive with a changed pickle, so that its checksum is right; other files as `mutated`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            members = {m.filename: old.read(m) for m in old.infolist()}
    except zipfile.BadZipFile:
        return mutated(data, rng, pool)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as new:
        for name, content in members.items():
            new.writestr(name, mutated(content, rng, [content]) if name.endswith("data.pkl") else content)
    return stream.getvalue()
