"""Tokens of IR text, each with its line and column for the error messages."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rnngraph.errors import ParseError

_TOKEN = re.compile(
    r"""(?P<division>(?<=[\w)])//(?=\d))  # within a size such as (time+1)//2; elsewhere // starts a comment
      |(?P<space>[ \t\r]+|//[^\n]*)|(?P<newline>\n)
      |(?P<value>%[A-Za-z0-9_.\-/]+)
      |(?P<symbol>@[A-Za-z0-9_.\-/]+)
      |(?P<number>[-+]?(?:inf\b|nan\b|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?))
      |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<string>"(?:[^"\\\n]|\\.)*")
      |(?P<punct>[(){}\[\]<>=,:^*+-])""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    kind: str  # value | symbol | number | word | string | punct | end
    text: str
    line: int
    column: int

    def error(self, message: str) -> ParseError:
        return ParseError(message, self.line, self.column)

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 40 else f"{self.text[:40]}..."
        return "end of text" if self.kind == "end" else repr(shown)


def tokenize(text: str) -> list[Token]:
    """All tokens and a final one of kind "end"; ParseError at the first character that starts none."""
    tokens: list[Token] = []
    at, line, start = 0, 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ParseError(f"unexpected character {text[at]!r}", line, at - start + 1)
        kind = match.lastgroup or ""
        if kind == "newline":
            line, start = line + 1, match.end()
        elif kind != "space":
            tokens.append(Token("punct" if kind == "division" else kind, match.group(), line, at - start + 1))
        at = match.end()
    tokens.append(Token("end", "", line, at - start + 1))
    return tokens
