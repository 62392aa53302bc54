"""The attributes of a node: texts, as MXNet writes them ("(1, 2)", "True", "None"). Read, never evaluated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from rnngraph.errors import ImportModelError

_INTEGER = re.compile(r"[+-]?\d{1,18}L?")  # L: written by Python 2
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
MAX_ITEMS = 1024


class Attributes:
    """Readers by kind. ImportModelError names the node, the attribute and what was expected."""

    def __init__(self, texts: Mapping[str, str], owner: str) -> None:
        self.texts = texts
        self.owner = owner

    def given(self, name: str) -> bool:
        """Whether the attribute is there and not None."""
        return self.texts.get(name, "None") != "None"

    def text(self, name: str, default: str = "") -> str:
        return self.texts[name] if self.given(name) else default

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """One of ``choices``."""
        found = self.text(name, default)
        if found not in choices:
            raise self.error(name, f"one of {', '.join(choices)}")
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        if not self.given(name):
            return default
        found = _FLAGS.get(self.texts[name].strip().lower())
        if found is None:
            raise self.error(name, "True or False")
        return found

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number; it must be there where there is no default."""
        if not self.given(name) and default is not None:
            return default
        return self._whole(name, self.texts.get(name, ""))

    def optional_int(self, name: str) -> int | None:
        return self._whole(name, self.texts[name]) if self.given(name) else None

    def number(self, name: str, default: float | None = None) -> float:
        if not self.given(name) and default is not None:
            return default
        text = self.texts.get(name, "").strip().rstrip("f")
        try:
            found = float(text) if len(text) <= 64 else math.nan
        except ValueError:
            raise self.error(name, "a number") from None
        if math.isnan(found):
            raise self.error(name, "a number")
        return found

    def ints(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Whole numbers; a number alone is a tuple of one."""
        found = self.optional_ints(name)
        if found is None:
            if default is None:
                raise self.error(name, "whole numbers")
            return default
        if any(v is None for v in found):
            raise self.error(name, "whole numbers")
        return tuple(v for v in found if v is not None)

    def optional_ints(self, name: str) -> tuple[int | None, ...] | None:
        """Whole numbers or None in each place; None where the attribute is not there."""
        if not self.given(name):
            return None
        text = self.texts[name].strip()
        if text[:1] in "([" and text[-1:] in ")]":
            text = text[1:-1]
        parts = [p.strip() for p in text.split(",")] if text.strip() else []
        if parts and not parts[-1]:
            parts.pop()  # (3,)
        if len(parts) > MAX_ITEMS:
            raise self.error(name, f"at most {MAX_ITEMS} numbers")
        return tuple(None if p == "None" else self._whole(name, p) for p in parts)

    def floats(self, name: str) -> tuple[float, ...]:
        """Numbers in brackets."""
        text = self.text(name).strip().strip("()[]")
        parts = [p.strip() for p in text.split(",") if p.strip()]
        return tuple(Attributes({name: p}, self.owner).number(name) for p in parts[:MAX_ITEMS])

    def _whole(self, name: str, text: str) -> int:
        if not _INTEGER.fullmatch(text.strip()):
            raise self.error(name, "a whole number")
        return int(text.strip().rstrip("L"))

    def error(self, name: str, expected: str) -> ImportModelError:
        shown = self.texts.get(name)
        return ImportModelError(f"{self.owner}: attribute {name}: expected {expected}, got "
                                f"{'none' if shown is None else repr(shown[:60])}")
