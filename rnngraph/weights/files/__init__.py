"""Files of named arrays: safetensors and npz to read and write, MXNet's .params to read. Nothing is ever unpickled."""

from __future__ import annotations

from rnngraph.weights.files.store import read, save

__all__ = ["read", "save"]
