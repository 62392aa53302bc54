"""What raise-rnn and the merges share: a step's polynomials, the cells they are, constraints, building and pairing."""

from __future__ import annotations
