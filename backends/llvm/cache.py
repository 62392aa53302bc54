"""Objects for the CPU in the compile cache."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rnngraph.backends.cache import LIMIT, MAGIC, ObjectCache, cache_for, default_directory, digest_of, sizes
from rnngraph.backends.llvm import jit
from rnngraph.backends.llvm.cpu import CpuTarget

SUFFIX = ".o"


def object_key(text: str, target: CpuTarget, opt: int = 2) -> str:
    """The file name of the object."""
    return digest_of(text, target.triple, target.cpu, target.features, str(opt), jit.OBJECT_FORM, jit.llvm_version(),
                     getattr(sys.modules["rnngraph"], "__version__", ""))


def default_cache() -> ObjectCache:
    """The cache that the environment names now."""
    return cache_for(SUFFIX)


def cached_object(text: str, target: CpuTarget, opt: int = 2, *, cache: ObjectCache | None = None,
                  compiler: Callable[[str, CpuTarget, int], bytes] = jit.compile_object) -> bytes:
    """The object of the IR text: from the cache, or compiled now and kept."""
    cache = cache or default_cache()
    key = object_key(text, target, opt)
    data = cache.get(key)
    if data is None:
        data = compiler(text, target, opt)
        cache.put(key, data)
    return data


def built_object(signature: str, build: Callable[[], str], target: CpuTarget) -> bytes:
    """The object of the IR text that ``build`` writes; ``signature`` and the target together must decide that text."""
    cache = default_cache()
    key = object_key(f"{target}\n{signature}", target)
    data = cache.get(key)
    if data is None:
        data = jit.compile_object(build(), target)
        cache.put(key, data)
    return data


__all__ = ["LIMIT", "MAGIC", "SUFFIX", "ObjectCache", "built_object", "cached_object", "default_cache",
           "default_directory", "object_key", "sizes"]
