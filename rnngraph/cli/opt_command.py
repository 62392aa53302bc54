"""`rnngraph opt`: run passes over text IR."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click

from rnngraph import passes
from rnngraph.backends import default_registry
from rnngraph.backends.registry import TARGETS
from rnngraph.cli.source import read_graph
from rnngraph.errors import ParseError
from rnngraph.ir import Graph, verify
from rnngraph.rewrite import PassContext, PassRecord, Pipeline


@dataclass(frozen=True, slots=True)
class PrintAfter:
    """Prints the graph, and what was computed beside it, after the passes in ``wanted`` ("all": each)."""

    wanted: frozenset[str]

    def after(self, index: int, record: PassRecord, graph: Graph) -> None:
        if not self.wanted & {"all", record.name.split("{")[0]}:
            return
        click.echo(f"// after {index:03d} {record.name}{'' if record.changed else ' (no change)'}", err=True)
        click.echo(record.after, err=True, nl=False)
        for name, text in record.artifacts.items():
            click.echo("".join(f"// {name}: {line}\n" for line in text.splitlines()), err=True, nl=False)


def _print_passes(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        for name in passes.PASSES:
            click.echo(name)
        for name, text in passes.PIPELINES.items():
            click.echo(f"pipeline {name} = {text}")
        ctx.exit()


@click.command(name="opt")
@click.argument("file", default="-")
@click.option("-p", "--pipeline", default="default", show_default=True, metavar="TEXT",
              help="Passes, as a,b{option=value}; or the name of a pipeline.")
@click.option("--passes", is_flag=True, is_eager=True, expose_value=False, callback=_print_passes,
              help="List the passes and the named pipelines.")
@click.option("--print-after", multiple=True, metavar="PASS|all",
              help="Print the graph after this pass, on stderr.")
@click.option("--remarks", is_flag=True, help="Print what the passes applied and missed, on stderr.")
@click.option("--time", "timing", is_flag=True, help="Print how long each pass took, on stderr.")
@click.option("--verify/--no-verify", "verify_each", default=True, show_default=True,
              help="Check the graph before, and after every pass.")
@click.option("--target", type=click.Choice(TARGETS), default="cpu", show_default=True)
@click.option("--refs", is_flag=True,
              help="Leave large constants as references; read it again with the resources.npz of the input.")
@click.option("-o", "--output", type=click.Path(dir_okay=False),
              help="Write the graph here instead of stdout.")
@click.option("--json", "as_json", is_flag=True,
              help="One JSON object on stdout: the graph, and a record per pass.")
def command(file: str, pipeline: str, print_after: tuple[str, ...], remarks: bool, timing: bool,
            verify_each: bool, target: str, refs: bool, output: str | None, as_json: bool) -> None:
    """Read a graph from FILE (or stdin), run a pipeline over it, print the graph.

    A resources.npz beside FILE holds the large constants that its text refers to.
    """
    line = read_pipeline(pipeline)
    wanted = frozenset(n for item in print_after for n in item.split(","))
    if unknown := sorted(wanted - {"all", *passes.PASSES}):
        raise click.BadParameter(f"unknown pass {unknown[0]!r}; --passes lists them",
                                 param_hint="--print-after")
    graph = read_graph(file)
    if verify_each:
        verify(graph)
    context = PassContext(target=target, registry=default_registry())
    records = line.run(graph, context, instruments=[PrintAfter(wanted)], verify_each=verify_each)
    text = graph.to_text(resources=not refs)
    if remarks:
        for remark in context.remarks:
            click.echo(str(remark), err=True)
    if timing:
        click.echo(time_table(records), err=True)
    if as_json:
        text = json.dumps({"graph": text, "pipeline": str(line), "passes": [record_json(r) for r in records]})
    if output:
        Path(output).write_text(text, encoding="utf-8")
    else:
        click.echo(text, nl=as_json)


def read_pipeline(text: str) -> Pipeline:
    """The pipeline of this name or text; UsageError with the column where it cannot be read."""
    try:
        return passes.pipeline(text)
    except ParseError as e:
        raise click.BadParameter(str(e).removeprefix("1:"), param_hint="--pipeline, column") from None


def time_table(records: list[PassRecord]) -> str:
    """A line per pass: milliseconds, whether it changed the graph."""
    lines = [f"{r.seconds * 1e3:9.2f} ms  {'changed' if r.changed else '-':8} {r.name}" for r in records]
    return "\n".join([*lines, f"{sum(r.seconds for r in records) * 1e3:9.2f} ms  total"])


def record_json(record: PassRecord) -> dict[str, object]:
    return {"name": record.name, "seconds": record.seconds, "changed": record.changed,
            "remarks": [{"kind": r.kind, "pass": r.pass_name, "layer": r.layer, "message": r.message}
                        for r in record.remarks]}
