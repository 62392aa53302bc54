"""The machinery of rewriting: patterns and their driver, passes, pipelines, remarks. It knows no concrete pass."""

from __future__ import annotations

from rnngraph.rewrite.pass_base import Artifact, Pass, PassContext, Tried
from rnngraph.rewrite.pattern import Miss, Pattern, RewriteReport, is_dead, pattern, rewrite
from rnngraph.rewrite.pipeline import Instrument, PassRecord, Pipeline
from rnngraph.rewrite.remarks import Remark
from rnngraph.rewrite.snapshot import Snapshot

__all__ = ["Artifact", "Instrument", "Miss", "Pass", "PassContext", "PassRecord", "Pattern", "Pipeline", "Remark",
           "RewriteReport", "Snapshot", "Tried", "is_dead", "pattern", "rewrite"]
