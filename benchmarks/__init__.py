"""Measurements. numpy's own thread pools stay out of them: this runs before a benchmark can import numpy."""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
