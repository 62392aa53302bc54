"""Compiled code on disk, so that a model compiles once per machine: objects for the CPU, cubins for the GPU.

Trust: code is loaded from this folder, so it must be ours alone. The folder is owned by the user, closed to others,
and no symbolic link; each file carries a sha256 over its name and content. A folder that is not so is not used (a
warning says why), a file that is not so is compiled again. Processes may share the folder: files appear by rename.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path

LIMIT = 256 << 20  # bytes on disk before the least recently used objects go
SOURCES = (".py", ".ll", ".h", ".cpp")
MEMORY_LIMIT = 64 << 20
MAGIC = b"rnngraph object 1\n"
_STALE = 3600.0  # seconds after which another process's unfinished file is rubbish


def default_directory() -> Path | None:
    """RNNGRAPH_CACHE, or rnngraph/ in the user's cache folder; None when RNNGRAPH_CACHE is "off"."""
    chosen = os.environ.get("RNNGRAPH_CACHE", "")
    if chosen:
        return None if chosen.lower() == "off" else Path(os.path.abspath(os.path.expanduser(chosen)))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    return Path(base) / "rnngraph" if os.path.isabs(base) else None


def digest_of(*parts: str) -> str:
    """A key: a sha256 over everything that decides an object's bytes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


@functools.cache
def sources_digest(folder: Path) -> str:
    """A digest of the sources in a folder and below it: what they generate or choose is theirs alone."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in SOURCES):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class ObjectCache:
    """Objects by key, in ``directory`` (created when missing), or in memory alone when it is None or unsafe. ``suffix``
    ends the names of its files."""

    def __init__(self, directory: Path | None, limit: int = LIMIT, suffix: str = ".o") -> None:
        self.directory = directory
        self.suffix = suffix
        self.limit = limit
        self._memory: dict[str, bytes] = {}
        self._lock = threading.Lock()
        problem = self._open() if directory is not None else ""
        if problem:
            self._give_up(problem)

    def get(self, key: str) -> bytes | None:
        """The object, or None when it is not there or its file is damaged."""
        with self._lock:
            found = self._memory.get(key)
        if found is not None or self.directory is None:
            return found
        path = self.directory / (key + self.suffix)
        data = _read(path)
        head = len(MAGIC) + 32
        if data is None or data[:head] != MAGIC + _seal(key, data[head:]):
            return None
        try:
            os.utime(path)  # the age that eviction looks at is the time of the last use
        except OSError:
            pass  # gone meanwhile, or a read-only folder: what was read is good all the same
        return data[head:]

    def put(self, key: str, data: bytes) -> None:
        """Keep the object. A full disk or a lost folder costs a warning, not the call."""
        directory = self.directory
        if directory is None:
            self._remember(key, data)
            return
        try:
            handle, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")  # mode 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(MAGIC + _seal(key, data) + data)
                os.replace(temporary, directory / (key + self.suffix))
            except BaseException:
                os.unlink(temporary)
                raise
            self._evict(directory)
        except OSError as error:
            self._give_up(f"cannot write to {directory}: {error}")
            self._remember(key, data)

    def _open(self) -> str:
        """Create the folder if need be; what is wrong with it, or ""."""
        directory = self.directory
        assert directory is not None
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
            found = os.lstat(directory)
        except OSError as error:
            return f"cannot create {directory}: {error}"
        if not stat.S_ISDIR(found.st_mode):
            return f"{directory} is a link or no folder"
        if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            return f"{directory} belongs to another user (id {found.st_uid})"
        if os.name == "posix" and found.st_mode & 0o022:
            return f"others may write to {directory} (mode {stat.S_IMODE(found.st_mode):o}); chmod 700 makes it usable"
        return ""

    def _give_up(self, problem: str) -> None:
        warnings.warn(f"rnngraph: the compile cache is kept in memory only: {problem}", RuntimeWarning, stacklevel=4)
        self.directory = None

    def _remember(self, key: str, data: bytes) -> None:
        with self._lock:
            self._memory[key] = data
            while len(self._memory) > 1 and sum(map(len, self._memory.values())) > MEMORY_LIMIT:
                del self._memory[next(iter(self._memory))]

    def _evict(self, directory: Path) -> None:
        files = []
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if entry.name.endswith(self.suffix):
                    files.append((found.st_mtime, found.st_size, entry.path))
                elif entry.name.startswith(".new-") and time.time() - found.st_mtime > _STALE:
                    _remove(entry.path)
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files)[:-1]:
            if total <= self.limit:
                break
            _remove(path)
            total -= size


def sizes(directory: Path, suffix: str = ".o") -> list[int]:
    """Bytes of each object in a cache's folder, in which other processes may add and remove at the same time."""
    found = []
    for path in directory.glob(f"*{suffix}"):
        with suppress(FileNotFoundError):
            found.append(path.stat().st_size)
    return found


def _seal(key: str, data: bytes) -> bytes:
    return hashlib.sha256(key.encode() + data).digest()


def _read(path: Path) -> bytes | None:
    """The content of a plain file of ours that no other user may write; None for anything else."""
    flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))  # those that exist here
    try:
        handle = os.open(path, os.O_RDONLY | flags)
    except OSError:
        return None
    try:
        found = os.fstat(handle)
        ours = os.name != "posix" or (found.st_uid == os.geteuid() and not found.st_mode & 0o022)
        if not (ours and stat.S_ISREG(found.st_mode)):
            return None
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(handle)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # another process was faster


_caches: dict[tuple[Path | None, str], ObjectCache] = {}
_caches_lock = threading.Lock()


def cache_for(suffix: str) -> ObjectCache:
    """The cache that the environment names now; one per folder, suffix and process."""
    place = (default_directory(), suffix)
    with _caches_lock:
        if place not in _caches:
            _caches[place] = ObjectCache(place[0], suffix=suffix)
        return _caches[place]
