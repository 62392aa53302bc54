"""A section in a process of its own: cases in order, what they find as lines of JSON.

Lines are ``{"begin": case}``, ``{"row": {...}}``, ``{"left": case}`` and, last, ``{"end": true}``. What libraries print
goes to stderr.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Collection
from dataclasses import asdict
from typing import Any, TextIO

from benchmarks.gpu.section import Section, Setting
from benchmarks.gpu.table import FAIL, Row

LOST = 3  # exit code of a process whose GPU answers no more: the next one goes on behind the case


def run_child(section: Section, setting: Setting, done: Collection[str]) -> int:
    """All cases but those that are ``done``; the exit code."""
    with os.fdopen(os.dup(1), "w", buffering=1) as events:
        os.dup2(2, 1)
        for case in section.cases(setting):
            if case.name in done or setting.only not in case.name:
                continue
            if setting.late:
                _send(events, left=case.name)
                continue
            _send(events, begin=case.name)
            try:
                for row in case.run():
                    _send(events, row=asdict(row))
            except Exception:  # whatever a case does, the next one is run
                name, _, path = case.name.partition(" on ")
                _send(events, row=asdict(Row(name, path, FAIL, note=traceback.format_exc())))
                if not setting.shim and not _answers():
                    return LOST
        _send(events, end=True)
    return 0


def _send(events: TextIO, **event: Any) -> None:
    print(json.dumps(event, default=float), file=events)


def _answers() -> bool:
    """Whether the GPU still computes: an illegal access spoils a process for good."""
    try:
        import cupy

        return int(cupy.arange(4).sum()) == 6
    except Exception:
        return False


__all__ = ["LOST", "run_child"]
