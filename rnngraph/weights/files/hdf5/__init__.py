"""HDF5 files, read without libhdf5, which crashes on some broken files (see docs/adr/0004)."""

from __future__ import annotations

from rnngraph.weights.files.hdf5.file import SIGNATURE, Dataset, Group, open_hdf5, read

__all__ = ["SIGNATURE", "Dataset", "Group", "open_hdf5", "read"]
