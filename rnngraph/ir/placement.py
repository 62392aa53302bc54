"""Where a layer was placed: written behind its name on each of its ops, ``low@gpu``, so that rewrites keep it."""

from __future__ import annotations

import re

from rnngraph.ir.core import Op

DEVICES = ("cpu", "gpu")
_PLACED = re.compile(r"([^+@]*)@(\w+)")


def placements(op: Op) -> dict[str, str]:
    """The devices that ``op`` and the ops of its bodies are placed on, each with a layer that says so."""
    found: dict[str, str] = {}
    for inner in op.walk():
        for layer, device in _PLACED.findall(inner.layer):
            found.setdefault(device, layer)
    return found
