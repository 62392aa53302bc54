"""What roll-steps is made of: chains of repeated ops, their frames, the step that the frames share, its scan."""

from __future__ import annotations
