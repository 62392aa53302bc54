"""Files of named arrays: safetensors and npz (read, written), HDF5 and MXNet's .params (read). Nothing is unpickled."""

from __future__ import annotations

from rnngraph.weights.files.store import read, save

__all__ = ["read", "save"]
