"""`python -m rnngraph` is `rnngraph`."""

from __future__ import annotations

import sys

from rnngraph.cli import main

if __name__ == "__main__":
    sys.exit(main())
