"""`rnngraph inspect`: the recurrences of a model, as written and as the compiler recognises them."""

from __future__ import annotations

import json

import click

from rnngraph import passes
from rnngraph.cli.source import model_options, read_model
from rnngraph.ir import Graph, Op, Rnn, RnnAttrs, Scan, ScanAttrs
from rnngraph.rewrite import PassContext, Remark

RAISING = ("canonicalize,fold-constants,cse,dce,hoist-invariant,iterate-sequences,masks-to-lengths,"
           "raise-rnn,merge-bidirectional,merge-stacked,canonicalize,dce")
SPEAKERS = frozenset({"iterate-sequences", "masks-to-lengths", "raise-rnn", "merge-bidirectional", "merge-stacked"})


@click.command(name="inspect")
@model_options
@click.option("--lengths", is_flag=True, help="Trace with an input of lengths (models in Python files).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: before, after, remarks.")
def command(model: str, shapes: tuple[str, ...], values: tuple[str, ...], lengths: bool, as_json: bool) -> None:
    """List the recurrences of MODEL: its loops over time as they are written, and what becomes of them.

    A loop that is an LSTM, GRU or simple RNN up to algebra is raised to one `rnn` node; bidirectional and
    stacked nodes merge where the constraints hold. Each merge that does not happen is said with its reason.
    """
    graph = read_model(model, shapes, values, lengths=lengths)
    before = recurrences(graph)
    context = PassContext()
    passes.run(RAISING, graph, context)
    after = recurrences(graph)
    remarks = [r for r in context.remarks if r.pass_name in SPEAKERS]
    if as_json:
        click.echo(json.dumps({"before": before, "after": after, "remarks": [_remark(r) for r in remarks]}))
        return
    _print("as written", before)
    _print("as recognised", after)
    click.echo("remarks" if remarks else "remarks: none")
    for remark in remarks:
        click.echo(f"  {remark}")


def recurrences(graph: Graph) -> list[dict[str, object]]:
    """One description per scan and rnn op, outer before inner."""
    found: list[dict[str, object]] = []
    for op in graph.walk():
        if isinstance(op.attrs, ScanAttrs):
            found.append(_scan(op, op.attrs))
        elif isinstance(op.attrs, RnnAttrs):
            found.append(_rnn(op, op.attrs))
    return found


def _scan(op: Op, attrs: ScanAttrs) -> dict[str, object]:
    scan = Scan(op)
    kinds = [inner.name for inner in scan.body.walk() if not inner.opdef.terminator]
    return {
        "kind": "scan", "layer": op.layer, "steps": attrs.steps, "reverse": attrs.reverse,
        "lengths": attrs.lengths, **({"until": attrs.until} if attrs.until else {}),
        "carries": {n: str(v.type) for n, v in zip(attrs.carries, scan.carry_args, strict=True)},
        "sequences": {n: str(v.type) for n, v in zip(attrs.xs, scan.x_args, strict=True)},
        "ops per step": len(kinds), "matmuls per step": kinds.count("matmul"),
    }


def _rnn(op: Op, attrs: RnnAttrs) -> dict[str, object]:
    x = Rnn(op).x
    found: dict[str, object] = {
        "kind": "rnn", "layer": op.layer, "steps": x.shape[0], "mode": attrs.mode, "input": x.shape[2],
        "hidden": attrs.hidden, "layers": attrs.num_layers, "direction": attrs.direction,
        "lengths": attrs.lengths,
    }
    if attrs.proj:
        found["projected"] = attrs.proj
    return found | {"reset after": attrs.reset_after} if attrs.mode == "gru" else found


def _print(title: str, found: list[dict[str, object]]) -> None:
    click.echo(f"{title}: {len(found)} recurrence{'' if len(found) == 1 else 's'}")
    for item in found:
        rest = ", ".join(f"{k} {_show(v)}" for k, v in item.items()
                         if k not in ("kind", "layer") and v is not False)
        click.echo(f"  {item['kind']} {item['layer'] or '(no layer)'}: {rest}")
    click.echo()


def _show(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}:{v}" for k, v in value.items()) or "none"
    return "yes" if value is True else str(value)


def _remark(r: Remark) -> dict[str, str]:
    return {"kind": r.kind, "pass": r.pass_name, "layer": r.layer, "message": r.message}
