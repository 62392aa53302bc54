"""`rnngraph compile`: compile a model and show what the compiler did."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

import rnngraph as rg
from rnngraph.backends.registry import TARGETS
from rnngraph.cli.opt_command import record_json, time_table
from rnngraph.cli.source import load_model, model_options


@click.command(name="compile")
@model_options
@click.option("--target", type=click.Choice(TARGETS), default="auto", show_default=True)
@click.option("--dump", type=click.Path(file_okay=False), metavar="DIR",
              help="Write the graph after every pass to DIR/000-trace.rg, 001-....rg.")
@click.option("--time", "timing", is_flag=True, help="Print how long each pass took.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: inputs, outputs, passes, remarks.")
def command(model: str, shapes: tuple[str, ...], lengths: bool, target: str, dump: str | None, timing: bool,
            as_json: bool) -> None:
    """Compile MODEL and print what was fused, merged and selected; what was missed, and why."""
    source, inputs = load_model(model, shapes)
    start = time.perf_counter()
    compiled = rg.compile(source, inputs=inputs, target=target, lengths=lengths)
    seconds = time.perf_counter() - start
    if dump:
        compiled.report.dump(Path(dump))
    if as_json:
        click.echo(json.dumps({
            "inputs": list(compiled.input_names), "outputs": list(compiled.output_names), "seconds": seconds,
            "passes": [record_json(r) for r in compiled.report.passes],
        }))
        return
    click.echo(compiled.explain())
    if timing:
        click.echo(time_table(compiled.report.passes))
    click.echo(f"compiled in {seconds * 1e3:.0f} ms")
    if dump:
        click.echo(f"the graph after every pass is in {dump}")
