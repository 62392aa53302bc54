"""What the compiler did, for readers: text, dumped files, one HTML page."""

from __future__ import annotations

from rnngraph.report.report import KernelReport, Report

__all__ = ["KernelReport", "Report"]
