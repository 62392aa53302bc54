"""The tokens of a size's text, such as ``2*time+1``, for the parser in `rnngraph.ir.polynomial`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from rnngraph.errors import ShapeError

SYMBOL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_TEXT: Final = 512
_TOKEN: Final = re.compile(r"\s*(?:(\d+)|([A-Za-z_][A-Za-z0-9_]*)|(//|[-+*%(),]))")


class Tokens:
    """A text cut into tokens, and how far it is read. ShapeError for what is no token, and for a text of more than 512
    characters."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise ShapeError(f"a size is at most {MAX_TEXT} characters long, got {text[:40]}...")
        self.text = text
        self.tokens = list(self.split())
        self.at = 0

    def split(self) -> Iterator[str]:
        at, text = 0, self.text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self.error()
            yield match.group().strip()
            at = match.end()

    def error(self) -> ShapeError:
        return ShapeError("a symbolic dim is an identifier or an expression of identifiers such as 2*time+1, "
                          f"got {self.text!r}")

    def peek(self) -> str:
        """The next token; "" at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise self.error()


__all__ = ["MAX_TEXT", "SYMBOL", "Tokens"]
