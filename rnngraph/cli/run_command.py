"""`rnngraph run`: compile a model and run it on arrays from files."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

import rnngraph as rg
from rnngraph.backends.registry import TARGETS
from rnngraph.cli.source import load_model, model_options, read_npy
from rnngraph.errors import InputError
from rnngraph.ir import Array
from rnngraph.ir.dims import is_symbol
from rnngraph.runtime.model import CompiledModel


@click.command(name="run")
@model_options
@click.option("-i", "--input", "files", multiple=True, metavar="[NAME=]FILE.npy",
              help="An input, in the model's order or by name; also lengths or mask, and initial states.")
@click.option("--mask", type=click.Path(dir_okay=False), metavar="FILE.npy",
              help="Steps to leave out: bool or 0/1 [batch, time], where false.")
@click.option("--stream", "chunk", type=click.IntRange(min=1), metavar="STEPS",
              help="Feed chunks of so many steps, and keep the states in between; the outputs are the same.")
@click.option("-o", "--out", type=click.Path(dir_okay=False), metavar="FILE.npz",
              help="Write the outputs here.")
@click.option("--target", type=click.Choice(TARGETS), default="auto", show_default=True)
@click.option("--repeat", type=click.IntRange(1, 100_000), default=1, show_default=True,
              help="Run so often, and print the median time.")
@click.option("--json", "as_json", is_flag=True,
              help="One JSON object: per output dtype, shape, min, mean, max.")
def command(model: str, shapes: tuple[str, ...], values: tuple[str, ...], files: tuple[str, ...], mask: str | None,
            chunk: int | None, out: str | None, target: str, repeat: int, as_json: bool) -> None:
    """Compile MODEL, run it on the inputs, print a summary of every output."""
    source, inputs = load_model(model, shapes, values)
    compiled = rg.compile(source, inputs=inputs, target=target)
    arrays = bind_inputs((*files, f"mask={mask}") if mask else files, compiled.input_names)
    seconds: list[float] = []
    for _ in range(repeat):
        start = time.perf_counter()
        outputs = compiled.run(arrays) if chunk is None else streamed(compiled, arrays, chunk)
        seconds.append(time.perf_counter() - start)
    if out:
        with Path(out).open("wb") as file:
            np.savez(file, allow_pickle=False, **outputs)
    rows = {name: summary(array) for name, array in outputs.items()}
    if as_json:
        click.echo(json.dumps({"outputs": rows, "seconds": statistics.median(seconds)}))
        return
    for name, row in rows.items():
        click.echo(f"{name}: " + ", ".join(f"{k} {v}" for k, v in row.items()))
    click.echo(f"{statistics.median(seconds) * 1e3:.3f} ms" + (f", median of {repeat}" if repeat > 1 else ""))


def bind_inputs(files: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Array]:
    """Arrays by input name; InputError when there are too many, or a name comes twice."""
    named = [item.rpartition("=") for item in files]
    free = iter([n for n in names if n not in {name for name, _, _ in named}])
    arrays: dict[str, Array] = {}
    for given, _, path in named:
        name = given or next(free, "")
        if not name or name in arrays:
            raise InputError(f"--input {path}: the model takes {', '.join(names)}, each once")
        arrays[name] = read_npy(path)
    return arrays


def streamed(compiled: CompiledModel, arrays: Mapping[str, Array], steps: int) -> dict[str, Array]:
    """What `CompiledModel.run` gives, from a stream that is fed ``steps`` at a time. Outputs with time are joined."""
    names = compiled.input_names
    if set(arrays) != set(names):
        raise InputError(f"--stream takes the model's inputs {', '.join(names)}, got {', '.join(arrays) or 'none'}")
    given, dims = compiled.program.plan.bind([arrays[n] for n in names])
    plan = compiled.variant(stream=True).stream
    assert plan is not None
    time_steps = dims.pop(plan.time)
    symbols = {s: n for s, n in dims.items() if is_symbol(s)}
    session, pieces = compiled.stream(dims=symbols), list[tuple[Array, ...]]()
    for at in range(0, max(time_steps, 1), steps):
        now = [a if axis is None else np.take(a, range(at, min(at + steps, time_steps)), axis)
               for a, axis in zip(given, plan.inputs, strict=True)]
        got = session.feed(*now)
        pieces.append(got if isinstance(got, tuple) else (got,))
    joined = [parts[-1] if axis is None else np.concatenate(parts, axis)
              for parts, axis in zip(zip(*pieces, strict=True), plan.axes, strict=True)]
    return dict(zip(compiled.output_names, joined, strict=True))


def summary(array: Array) -> Mapping[str, str | float | list[int]]:
    """What an array holds, in a few numbers."""
    row: dict[str, str | float | list[int]] = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if array.size and array.dtype.kind in "fiu":
        row |= {"min": float(array.min()), "mean": float(array.mean()), "max": float(array.max())}
    return row
