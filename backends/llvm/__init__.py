"""The CPU backend: scan bodies become phases, phases become LLVM functions over packed weights.

Read in this order: cpu (what the code is made for), vector and vmath (emission helpers), microkernel, layout, phase,
stage (emission), jit and cache (text to function), arrays, tasks, plan (a call's buffers and schedule), kernel, pool.
"""

from __future__ import annotations

from rnngraph.backends.llvm.backend import LlvmBackend, backend

__all__ = ["LlvmBackend", "backend"]
