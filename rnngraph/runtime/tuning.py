"""What trials have shown on this machine, in one readable file: what was right and how fast, so that it is tried once.

The file is JSON and data alone: a damaged or foreign one is read as empty. It is replaced whole, so that processes may
share it; when two write at once, one may try again what the other has tried.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rnngraph.rewrite import Tried

FILE = "tuning.json"
VERSION = 1
MAX_BYTES = 16 << 20
MOST = 1e30  # of seconds and errors
MAX_ENTRIES = 10_000  # beyond which the oldest go


@dataclass(frozen=True, slots=True)
class Trial:
    """One entry: what was tried (device, op, sizes, implementation: for the reader) and what came of it."""

    device: str
    op: str
    sizes: str
    implementation: str
    failure: str
    seconds: float | None
    error: float | None

    @property
    def tried(self) -> Tried:
        return Tried(self.failure, self.seconds, self.error)


class Tuning:
    """The file in ``directory``; None keeps everything in memory."""

    def __init__(self, directory: Path | None) -> None:
        self.path = directory / FILE if directory is not None else None
        self.entries: dict[str, Trial] = {}
        self._read()

    def get(self, key: str) -> Trial | None:
        return self.entries.get(key)

    def put(self, key: str, trial: Trial) -> None:
        """Keep it; a full disk or a lost folder costs the memory of it, not the compile."""
        self._read()  # what other processes have added
        self.entries.pop(key, None)
        self.entries[key] = trial
        while len(self.entries) > MAX_ENTRIES:
            del self.entries[next(iter(self.entries))]
        if self.path is None:
            return
        text = json.dumps({"version": VERSION, "trials": {k: asdict(t) for k, t in self.entries.items()}}, indent=1)
        with suppress(OSError):
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".new-")  # mode 0600
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.replace(temporary, self.path)

    def _read(self) -> None:
        if self.path is None:
            return
        try:
            there = os.lstat(self.path)
            if not stat.S_ISREG(there.st_mode) or there.st_size > MAX_BYTES:
                return
            found = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return
        trials = found.get("trials") if isinstance(found, dict) and found.get("version") == VERSION else None
        if isinstance(trials, dict):
            read = {k: t for k, v in trials.items() if (t := _trial(v)) is not None}
            self.entries = {**read, **{k: t for k, t in self.entries.items() if k not in read}}


def _trial(found: Any) -> Trial | None:
    """An entry, when it is one."""
    names = Trial.__slots__
    if not isinstance(found, dict) or set(found) != set(names):
        return None
    texts = [found[n] for n in names[:5]]
    numbers = [found[n] for n in names[5:]]
    if not all(isinstance(t, str) for t in texts):
        return None
    if not all(n is None or (type(n) in (int, float) and 0 <= n < MOST) for n in numbers):
        return None
    return Trial(*texts, *(None if n is None else float(n) for n in numbers))


__all__ = ["FILE", "Trial", "Tuning"]
