"""`rnngraph inspect`: the recurrences of a model, as written and as the compiler recognises them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from rnngraph.cli.source import load_model, model_options, traced_model
from rnngraph.inspection import Recurrence, inspect, origins_of
from rnngraph.rewrite import Remark


@click.command(name="inspect")
@model_options
@click.option("--lengths", is_flag=True, help="Trace with an input of lengths (models in Python files).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: before, after, remarks.")
def command(model: str, shapes: tuple[str, ...], values: tuple[str, ...], lengths: bool, as_json: bool) -> None:
    """List the recurrences of MODEL: its loops over time as they are written, and what becomes of them.

    A loop that is an LSTM, GRU or simple RNN up to algebra is raised to one `rnn` node, also where it arrives unrolled;
    bidirectional and stacked nodes merge where the constraints hold. Each merge that does not happen is said with its
    reason, and for each recurrence whether generated code runs it.
    """
    loaded, inputs = load_model(model, shapes, values)
    before, after, remarks = inspect(traced_model(loaded, inputs, lengths=lengths), origins_of(loaded))
    if as_json:
        click.echo(json.dumps({"before": [r.to_dict() for r in before], "after": [r.to_dict() for r in after],
                               "remarks": [_remark(r) for r in remarks]}))
        return
    _print("as written", before)
    _print("as recognised", after)
    click.echo("remarks" if remarks else "remarks: none")
    for remark in remarks:
        click.echo(f"  {remark}")


def _print(title: str, found: Sequence[Recurrence]) -> None:
    click.echo(f"{title}: {len(found)} recurrence{'' if len(found) == 1 else 's'}")
    for item in found:
        click.echo(f"  {item}")
    click.echo()


def _remark(r: Remark) -> dict[str, str]:
    return {"kind": r.kind, "pass": r.pass_name, "layer": r.layer, "message": r.message}
