"""`rnngraph export`: a model as a file for other runtimes."""

from __future__ import annotations

import json
from collections import Counter

import click

import rnngraph as rg
from rnngraph.cli.source import load_model, model_options
from rnngraph.errors import ExportError
from rnngraph.frontends.to_onnx import NEWEST_OPSET, OLDEST_OPSET


@click.command(name="export")
@model_options
@click.argument("out", metavar="OUT.onnx", type=click.Path(dir_okay=False))
@click.option("--opset", type=click.IntRange(OLDEST_OPSET, NEWEST_OPSET), default=NEWEST_OPSET, show_default=True,
              help="The version of ONNX's operators.")
@click.option("--lengths", is_flag=True, help="With sequence lengths as an input (Python models).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: inputs, outputs, nodes by op.")
def command(model: str, shapes: tuple[str, ...], values: tuple[str, ...], out: str, opset: int, lengths: bool,
            as_json: bool) -> None:
    """Write MODEL to OUT.onnx: recurrences as LSTM, GRU and RNN nodes where these say them, else as Scan."""
    if not out.endswith(".onnx"):
        raise ExportError(f"{out}: expected a name that ends in .onnx")
    source, inputs = load_model(model, shapes, values)
    proto = rg.to_onnx(source, out, inputs, opset=opset, lengths=lengths)
    nodes = dict(sorted(Counter(node.op_type for node in proto.graph.node).items()))
    names = {"inputs": [i.name for i in proto.graph.input], "outputs": [o.name for o in proto.graph.output]}
    if as_json:
        click.echo(json.dumps({"file": out, "opset": opset, **names, "nodes": nodes}))
        return
    click.echo(f"{out}: opset {opset}, {', '.join(names['inputs'])} -> {', '.join(names['outputs'])}")
    click.echo(", ".join(op + (f" x{n}" if n > 1 else "") for op, n in nodes.items()))
