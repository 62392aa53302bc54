"""The object cache: found again, never trusted when damaged or open to others, bounded, shared by processes."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rnngraph.backends.llvm import cache, cpu
from rnngraph.backends.llvm.cache import ObjectCache

NATIVE = cpu.native_target()
KEY = "0" * 64
posix = pytest.mark.skipif(os.name != "posix", reason="file modes and owners of POSIX")


class Compiler:
    """Counts compilations; the object is the text."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, text: str, target: cpu.CpuTarget, opt: int) -> bytes:
        self.runs += 1
        return text.encode() * 100


def test_object_is_compiled_once(tmp_path: Path) -> None:
    compiler = Compiler()
    for _ in range(3):
        store = ObjectCache(tmp_path / "c")  # as a new process would see it
        assert cache.cached_object("text", NATIVE, cache=store, compiler=compiler) == b"text" * 100
    assert compiler.runs == 1
    cache.cached_object("other", NATIVE, cache=store, compiler=compiler)
    assert compiler.runs == 2


def test_key_covers_all_that_decides_the_code() -> None:
    generic = cpu.target("generic")
    keys = {cache.object_key("text", NATIVE), cache.object_key("text", generic), cache.object_key("text", NATIVE, 1),
            cache.object_key("text2", NATIVE), cache.object_key("", NATIVE),
            cache.object_key("text", dataclasses.replace(generic, features="+sse2"))}
    assert len(keys) == 6
    assert cache.object_key("text", NATIVE) in keys


@posix
def test_folder_and_files_are_private(tmp_path: Path) -> None:
    store = ObjectCache(tmp_path / "a" / "b")
    store.put(KEY, b"data")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    (file,) = (tmp_path / "a" / "b").iterdir()
    assert file.name == KEY + ".o"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "append", "rename"])
def test_damaged_file_is_compiled_again(tmp_path: Path, damage: str) -> None:
    compiler, store = Compiler(), ObjectCache(tmp_path / "c")
    good = cache.cached_object("text", NATIVE, cache=store, compiler=compiler)
    (file,) = (tmp_path / "c").iterdir()
    content = file.read_bytes()
    if damage == "rename":  # a whole object, but of another text
        cache.cached_object("other", NATIVE, cache=store, compiler=Compiler())
        os.replace(tmp_path / "c" / f"{cache.object_key('other', NATIVE)}.o", file)
    else:
        file.write_bytes({"truncate": content[:-1], "flip": content[:-1] + bytes([content[-1] ^ 1]), "empty": b"",
                          "append": content + b"x"}[damage])
    for _ in range(2):
        assert cache.cached_object("text", NATIVE, cache=store, compiler=compiler) == good
    assert compiler.runs == 2
    assert file.read_bytes() == content


@posix
@pytest.mark.parametrize("kind", ["writable", "link", "file"])
def test_unsafe_folder_is_not_used(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "c"
    (tmp_path / "real").mkdir(mode=0o700)
    if kind == "writable":
        folder.mkdir()
        folder.chmod(0o770)
    elif kind == "link":
        folder.symlink_to(tmp_path / "real")
    else:
        folder.write_text("")
    said = {"writable": r"others may write to .*c \(mode 770\); chmod 700", "link": "a link or no folder",
            "file": "cannot create|a link or no folder"}[kind]
    with pytest.warns(RuntimeWarning, match=f"kept in memory only: .*({said})"):
        store = ObjectCache(folder)
    store.put(KEY, b"data")
    assert store.get(KEY) == b"data"
    assert store.directory is None
    assert not list((tmp_path / "real").iterdir())


@posix
@pytest.mark.parametrize("kind", ["link", "writable", "folder"])
def test_unsafe_file_is_not_read(tmp_path: Path, kind: str) -> None:
    store = ObjectCache(tmp_path / "c")
    store.put(KEY, b"data")
    file = tmp_path / "c" / f"{KEY}.o"
    if kind == "writable":
        file.chmod(0o666)
    else:
        file.rename(tmp_path / "away")
        if kind == "link":
            file.symlink_to(tmp_path / "away")
        else:
            file.mkdir()
    assert store.get(KEY) is None
    if kind != "folder":
        store.put(KEY, b"new")
        assert store.get(KEY) == b"new"
        assert not file.is_symlink()


def test_folder_that_vanishes_costs_a_warning(tmp_path: Path) -> None:
    store = ObjectCache(tmp_path / "c")
    (tmp_path / "c").rmdir()
    with pytest.warns(RuntimeWarning, match="cannot write to"):
        store.put(KEY, b"data")
    assert store.get(KEY) == b"data"


def test_size_is_bounded_and_the_unused_go_first(tmp_path: Path) -> None:
    store = ObjectCache(tmp_path / "c", limit=3500)
    for i in range(3):
        store.put(f"{i:064d}", bytes(1000))
        os.utime(tmp_path / "c" / f"{i:064d}.o", (i + 1.0, i + 1.0))
    assert store.get(f"{0:064d}") is not None  # used now: 1 is the oldest
    stale = tmp_path / "c" / ".new-left"
    stale.write_bytes(b"x")
    os.utime(stale, (1.0, 1.0))
    store.put(f"{3:064d}", bytes(1000))
    assert [i for i in range(4) if store.get(f"{i:064d}") is not None] == [0, 2, 3]
    assert not stale.exists()
    store.put(f"{4:064d}", bytes(5000))  # too large alone: it stays until the next one comes
    assert [i for i in range(5) if store.get(f"{i:064d}") is not None] == [4]


def test_environment_chooses_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_CACHE", "off")
    assert cache.default_directory() is None
    assert cache.default_cache().directory is None
    monkeypatch.setenv("RNNGRAPH_CACHE", str(tmp_path / "mine"))
    assert cache.default_directory() == tmp_path / "mine"
    assert cache.default_cache() is cache.default_cache()
    monkeypatch.delenv("RNNGRAPH_CACHE")
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache.default_directory() == tmp_path / "rnngraph"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says: ignore it
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache.default_directory() == tmp_path / "home" / ".cache" / "rnngraph"


def hammer(folder: str) -> None:
    """Read and write a few keys over and over, in a folder too small for all of them."""
    store = ObjectCache(Path(folder), limit=60_000)
    for i in range(150):
        key = f"{i % 20:064d}"
        assert store.get(key) in (None, key.encode() * 50), "half an object was read"
        store.put(key, key.encode() * 50)
    assert store.directory is not None


def test_threads_and_processes_share_the_folder(tmp_path: Path) -> None:
    folder = str(tmp_path / "c")
    script = (f"import sys; sys.path[:0] = {sys.path!r}; from tests.backends.llvm.test_cache import hammer; "
              f"hammer({folder!r})")
    processes = [subprocess.Popen([sys.executable, "-W", "error", "-c", script]) for _ in range(2)]
    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(hammer, folder) for _ in range(3)]:
            done.result()
    assert [process.wait(60) for process in processes] == [0, 0]
