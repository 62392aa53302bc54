"""Sections in processes of their own, each within its time: what hangs is ended, what dies goes on behind the case."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu.child import LOST
from benchmarks.gpu.section import Section, row_of
from benchmarks.gpu.table import FAIL, LEFT, Result, Row

ENOUGH = 10  # processes for one section


def run_section(section: Section, program: Sequence[str], options: Sequence[str], until: float, log: Path) -> Result:
    """Run ``program --child section ...`` until every case is done or it is ``until`` (`time.time`)."""
    start, rows, done = time.time(), list[Row](), list[str]()
    for _ in range(ENOUGH):
        run = _Run(section, [*program, "--child", section.name, "--done", json.dumps(done), "--until", str(until),
                             *options], until, log)
        rows += run.rows
        done += run.begun
        if run.ended or not run.begun or time.time() > until:
            break
    return Result(section.name, section.title, rows, time.time() - start, section.matrix)


class _Run:
    """One process. ``begun``: its cases; ``ended``: whether it came to its end."""

    def __init__(self, section: Section, command: Sequence[str], until: float, log: Path) -> None:
        self.rows: list[Row] = []
        self.begun: list[str] = []
        self.ended = False
        with log.open("a") as errors:
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True,
                                  start_new_session=True) as process:
                why = self._follow(process, section, until)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
                self.reader.join()
        if not self.ended and code != LOST:
            self._failed(why or f"the process ended with {code}; {log.name} has what it printed")

    def _follow(self, process: subprocess.Popen[str], section: Section, until: float) -> str:
        """Take what it sends; why it must be ended, or nothing when it ends by itself."""
        lines: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
        self.reader.start()
        while True:
            try:
                line = lines.get(timeout=section.stall)
            except queue.Empty:
                return f"nothing happened for {section.stall:.0f} s: ended"
            if line is not None:
                self._take(json.loads(line))
            if line is None or self.ended:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=section.stall)
                return "" if process.poll() is not None else f"it did not leave within {section.stall:.0f} s: ended"
            if time.time() > until + section.stall:
                return f"still busy {section.stall:.0f} s after its time: ended"

    def _take(self, event: dict[str, Any]) -> None:
        if "begin" in event:
            self.begun.append(event["begin"])
        elif "row" in event:
            self.rows.append(row_of(event["row"]))
        elif "left" in event:
            self.rows.append(_row(event["left"], LEFT))
        else:
            self.ended = True

    def _failed(self, why: str) -> None:
        self.rows.append(_row(self.begun[-1] if self.begun else "", FAIL, why))


def _row(name: str, verdict: str, note: str = "") -> Row:
    """For a case as a whole: ``case on path``."""
    case, _, path = name.partition(" on ")
    return Row(case, path, verdict, note=note)


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def program() -> list[str]:
    """This program, as a command."""
    return [sys.executable, str(Path(__file__).resolve().parent.parent / "gpu_check.py")]


__all__ = ["program", "run_section"]
