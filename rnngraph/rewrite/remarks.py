"""What a pass says to its reader: applied, missed (with the reason), note."""

from __future__ import annotations

from dataclasses import dataclass

APPLIED, MISSED, NOTE = "applied", "missed", "note"


@dataclass(frozen=True, slots=True)
class Remark:
    """One sentence about one layer. ``kind`` is "applied", "missed" or "note"."""

    kind: str
    pass_name: str
    layer: str
    message: str

    def __str__(self) -> str:
        where = f" {self.layer}:" if self.layer else ""
        return f"{self.kind}: {self.pass_name}:{where} {self.message}"


@dataclass(frozen=True, slots=True)
class Miss:
    """Why a rewrite that looked at something did not do it; becomes a "missed" remark."""

    reason: str
    layer: str = ""
