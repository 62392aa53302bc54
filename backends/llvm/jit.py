"""IR text -> object bytes -> functions at addresses, through LLVM's new pass manager and LLJIT.

The only pass that runs is the always-inliner: emitted code is final, and an optimiser would cost thirty times more
than it gains. Compilations use a context of their own, so threads may compile at the same time.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence
from typing import Any

from rnngraph.backends.llvm.cpu import CpuTarget, native_target
from rnngraph.errors import CompileError

OBJECT_FORM = "pic small 1"  # part of the cache key: objects made in another way are not mixed with these

_lock = threading.RLock()
_state: dict[str, Any] = {}  # "llvm" -> the binding module, initialised; "jit" -> this process's LLJIT
_names = itertools.count()
if hasattr(os, "register_at_fork"):  # a child must not find the lock held by a thread that it does not have
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def _llvm() -> Any:
    """llvmlite.binding with its targets registered (once; LLVM then knows every architecture it was built with)."""
    with _lock:
        if "llvm" not in _state:
            import llvmlite.binding as llvm

            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
            _state["llvm"] = llvm
        return _state["llvm"]


def _machine(target: CpuTarget, opt: int) -> Any:
    """Position-independent code in the small model, so that constants are read relative to the code; LLVM's default
    for JITs would first load the address of each. The same objects serve a linker."""
    return _llvm().Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=opt, reloc="pic", codemodel="small", jit=False)


def _prepared(text: str, machine: Any) -> Any:
    """The text as a verified module with its always-inline calls inlined."""
    llvm = _llvm()
    try:
        module = llvm.parse_assembly(text, llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"llvm: the emitted IR is not valid: {error}") from error
    if "alwaysinline" in text:
        builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(0))
        manager = llvm.create_new_module_pass_manager()
        manager.add_always_inliner_pass()
        manager.run(module, builder)
    return module


def compile_object(text: str, target: CpuTarget, opt: int = 2) -> bytes:
    """An object file of the IR text, for `Library` or for a linker. ``opt`` is the code generator's level."""
    machine = _machine(target, opt)
    data: bytes = machine.emit_object(_prepared(text, machine))
    return data


def emit_assembly(text: str, target: CpuTarget, opt: int = 2) -> str:
    """The assembly text that `compile_object` would encode."""
    machine = _machine(target, opt)
    assembly: str = machine.emit_assembly(_prepared(text, machine))
    return assembly


def _lljit() -> Any:
    """This process's LLJIT. It only links objects, so one of them serves code made for every target."""
    with _lock:
        if "jit" not in _state:
            # JITLink keeps an object's parts in one block of memory: the small code model needs them near.
            _state["jit"] = _llvm().create_lljit_compiler(_machine(native_target(), 2), use_jit_link=True,
                                                          suppress_errors=True)
        return _state["jit"]


class Library:
    """Objects linked together and mapped into this process; the code stays mapped while the library lives.

    ``exports`` are the symbols that `address` knows. Calls between the objects, and to libc and libm, are resolved.
    """

    def __init__(self, objects: Sequence[bytes], exports: Sequence[str]) -> None:
        builder = _llvm().JITLibraryBuilder()
        for data in objects:
            builder.add_object_img(data)
        builder.add_current_process()
        for name in exports:
            builder.export_symbol(name)
        with _lock:  # names in one LLJIT are unique for ever
            self._jit = _lljit()
            try:
                self._tracker = builder.link(self._jit, f"rnngraph.{next(_names)}")
            except RuntimeError as error:
                raise CompileError(f"llvm: objects do not link: {error}") from error
        self.exports = tuple(exports)

    def address(self, symbol: str) -> int:
        """Where the exported function is. The caller keeps this library alive while it may be called."""
        if symbol not in self.exports:
            raise CompileError(f"llvm: {symbol!r} is not exported; exported: {', '.join(self.exports)}")
        found: int = self._tracker[symbol]
        return found


def llvm_version() -> str:
    """The version of the LLVM that compiles, as 22.1.0."""
    return ".".join(str(part) for part in _llvm().llvm_version_info)
