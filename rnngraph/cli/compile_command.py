"""`rnngraph compile`: compile a model and show what the compiler did."""

from __future__ import annotations

import json

import click

import rnngraph as rg
from rnngraph.backends.registry import TARGETS
from rnngraph.cli.opt_command import record_json, time_table
from rnngraph.cli.source import load_model, model_options


@click.command(name="compile")
@model_options
@click.option("--lengths", is_flag=True, help="The variant with sequence lengths (Python models).")
@click.option("--target", type=click.Choice(TARGETS), default="auto", show_default=True)
@click.option("--dump", type=click.Path(file_okay=False), metavar="DIR",
              help="Write the graph after every pass to DIR/000-trace.rg, 001-....rg.")
@click.option("--time", "timing", is_flag=True, help="Print how long each pass took.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: inputs, outputs, passes, remarks.")
def command(model: str, shapes: tuple[str, ...], values: tuple[str, ...], lengths: bool, target: str,
            dump: str | None, timing: bool, as_json: bool) -> None:
    """Compile MODEL and print what was fused, merged and selected; what was missed, and why."""
    source, inputs = load_model(model, shapes, values)
    compiled = rg.compile(source, inputs, target=target)
    program = compiled.variant(lengths=lengths, initial_state=False)
    report = program.report
    if dump:
        report.dump(dump)
    if as_json:
        click.echo(json.dumps({
            "inputs": list(report.inputs), "outputs": list(report.outputs), "seconds": report.seconds,
            "passes": [record_json(r) for r in report.passes],
            "kernels": [{"backend": k.backend, "ops": k.ops, "seconds": k.seconds} for k in report.kernels],
        }))
        return
    click.echo(report.explain(), nl=False)
    if timing:
        click.echo("\n" + time_table(report.passes))
    if dump:
        click.echo(f"\nthe graph after every pass is in {dump}")
