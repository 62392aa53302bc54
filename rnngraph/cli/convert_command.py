"""`rnngraph convert`: recurrent weights from the layout of one system to that of another, file to file."""

from __future__ import annotations

import json
from typing import Any, cast

import click

from rnngraph.weights import ALIASES, FORMATS, Options, RecurrentWeights, load, read, save
from rnngraph.weights.gates import GATES
from rnngraph.weights.table import find

SYSTEMS = click.Choice([*FORMATS, *ALIASES])
BIAS_MODES = click.Choice(["double", "single_input", "single_recurrent", "none"])


@click.command(name="convert")
@click.argument("source_file", metavar="IN", type=click.Path(exists=True, dir_okay=False))
@click.argument("target_file", metavar="OUT", type=click.Path(dir_okay=False))
@click.option("--from", "source", type=SYSTEMS, required=True, help="Whose layout IN has.")
@click.option("--to", "target", type=SYSTEMS, required=True, help="Whose layout OUT gets.")
@click.option("--prefix", help="Take the arrays of IN whose names start so, as 'encoder.lstm.'.")
@click.option("--mode", type=click.Choice(list(GATES)), help="Where the arrays do not show it.")
@click.option("--reset-after/--reset-before", default=None, help="Of a GRU, where the arrays do not show it.")
@click.option("--forget-bias", type=float, help="What the graph of tf's cells adds to the forget gate. [default: 1.0]")
@click.option("--bias-mode", type=BIAS_MODES, help="Of cudnn. [default: double]")
@click.option("--hidden", type=click.IntRange(1), help="Units, of a flat array.")
@click.option("--layers", type=click.IntRange(1), help="Of a flat array. [default: 1]")
@click.option("--directions", type=click.IntRange(1, 2), help="Of a flat array. [default: 1]")
@click.option("--projection", type=click.IntRange(0), help="Of a flat array. [default: 0, none]")
@click.option("--to-prefix", help="What the names in OUT start with.")
@click.option("--to-forget-bias", type=float, help="As --forget-bias, of OUT.")
@click.option("--to-bias-mode", type=BIAS_MODES, help="As --bias-mode, of OUT.")
@click.option("--no-fold-bias", is_flag=True, help="Refuse to add two biases where OUT has one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the weights' sizes, arrays with shapes.")
def command(source_file: str, target_file: str, source: str, target: str, to_prefix: str | None,
            to_forget_bias: float | None, to_bias_mode: str | None, no_fold_bias: bool, as_json: bool,
            **options: Any) -> None:
    """Read recurrent weights from IN (.safetensors, .npz, MXNet's .params), write them to OUT (.safetensors, .npz).

    What the other layout cannot hold (peepholes, a projection, another placement of a GRU's reset gate, a second bias
    that cannot be added to the first) is an error that names it; nothing is left out in silence.
    """
    arrays = read(source_file)
    weights = load(arrays, source, **_given(options))
    written = weights.to(target, **_given({
        "prefix": to_prefix, "forget_bias": to_forget_bias, "bias_mode": to_bias_mode,
        "fold_bias": False if no_fold_bias else None}))
    save(target_file, written)
    left = sum(not name.startswith(options["prefix"] or "") for name in arrays)
    if as_json:
        click.echo(json.dumps(_sizes(weights) | {
            "from": find(source).name, "to": find(target).name, "file": target_file, "left": left,
            "arrays": {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in written.items()}}))
        return
    click.echo(", ".join(f"{name} {value}" for name, value in _sizes(weights).items()))
    for name, array in written.items():
        click.echo(f"  {name}: {array.dtype}{list(array.shape)}")
    rest = f"; {left} arrays with other names were left" if left else ""
    click.echo(f"{len(written)} arrays as {find(target).title} in {target_file}{rest}")


def _given(options: dict[str, Any]) -> Options:
    """The options that were given."""
    return cast(Options, {name: value for name, value in options.items() if value is not None})


def _sizes(weights: RecurrentWeights) -> dict[str, Any]:
    cells = list(weights)
    found: dict[str, Any] = {"mode": weights.mode, "layers": weights.layers, "directions": weights.directions,
                             "input": weights.input, "hidden": _one([cell.hidden for cell in cells])}
    if any(cell.projection is not None for cell in cells):
        found["projection"] = _one([cell.output for cell in cells])
    if weights.mode == "gru":
        found["reset_after"] = weights.reset_after
    return found


def _one(sizes: list[int]) -> int | list[int]:
    return sizes[0] if len(set(sizes)) == 1 else sizes
