"""Where the command line gets its models: text IR (file or stdin), or a model in a user's Python file."""

from __future__ import annotations

import sys
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np

from rnngraph.errors import ImportModelError, ParseError
from rnngraph.ir import Array, Graph, parse

RESOURCES = "resources.npz"


def read_graph(file: str) -> Graph:
    """The graph in ``file`` ("-": stdin); a parse error names the file. OSError when it cannot be read."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise ImportModelError(f"{file}: not text: {e.reason} at byte {e.start}") from None
    beside = Path(file).parent / RESOURCES
    resources = read_npz(beside) if file != "-" and beside.is_file() else {}
    try:
        return parse(text, resources)
    except ParseError as e:
        raise ImportModelError(f"{'stdin' if file == '-' else file}:{e}") from None


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an .npz; ImportModelError when it is not one. Pickled objects are refused."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, zipfile.BadZipFile, EOFError, AttributeError) as e:
        raise ImportModelError(f"{path}: not a readable .npz file: {e}") from None


def read_npy(path: str) -> Array:
    """The array of an .npy; ImportModelError when it is not one. Pickled objects are refused."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as e:
        raise ImportModelError(f"{path}: not a readable .npy file: {e}") from None
    if not isinstance(array, np.ndarray):
        raise ImportModelError(f"{path}: expected one array (.npy), got an archive")
    return array


def read_python(spec: str) -> tuple[object, ModuleType]:
    """``file.py:name`` -> the object of that name, and the module. The file is the user's own program and is run."""
    file, _, name = spec.rpartition(":")
    if not Path(file).is_file():
        raise FileNotFoundError(2, "No such file", file)
    loading = spec_from_file_location(Path(file).stem, file)
    if loading is None or loading.loader is None:
        raise ImportModelError(f"{file}: not a Python file")
    module = module_from_spec(loading)
    sys.path.insert(0, str(Path(file).resolve().parent))
    try:
        loading.loader.exec_module(module)
    except Exception as e:
        raise ImportModelError(f"{file}: running it failed: {type(e).__name__}: {e}") from e
    finally:
        sys.path.pop(0)
    if not hasattr(module, name):
        known = ", ".join(n for n in vars(module) if not n.startswith("_")) or "nothing"
        raise ImportModelError(f"{file}: has no {name!r}; it defines {known}")
    return getattr(module, name), module
