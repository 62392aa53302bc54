"""Files of named arrays: safetensors, npz and MXNet's .params (read, written), HDF5 and PyTorch's .pt (read).

Nothing is unpickled: of a checkpoint's pickle only the description of its tensors is read.
"""

from __future__ import annotations

from rnngraph.weights.files.store import read, save

__all__ = ["read", "save"]
