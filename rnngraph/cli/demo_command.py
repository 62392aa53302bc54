"""`rnngraph demo`: a trained model as the main job."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import click
import numpy as np

from rnngraph.demo.g2p import Pronouncer, Timing, measure
from rnngraph.demo.g2p_checkpoint import load_checkpoint, phonemes, spell
from rnngraph.demo.g2p_numpy import NumpyPronouncer
from rnngraph.report import Report
from rnngraph.report.explain import op_counts

WORDS = ("recurrent", "network", "compiler", "pronounce", "phoneme", "rhythm", "kaleidoscope", "serendipity",
         "quixotic", "knowledge", "activationist", "neologism")


@click.command(name="demo")
@click.argument("words", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: phonemes by word.")
def command(words: tuple[str, ...], as_json: bool) -> None:
    """Pronounce WORDS: a line word<TAB>PHONEMES for each.

    Without WORDS: compile the model, show what every pass did, pronounce a dozen words, and compare the time with
    the numpy code of the package that the model comes from.

    The model is the GRU encoder and decoder of g2p-en 2.1.0, trained on the CMU Pronouncing Dictionary.
    """
    spelled = [spell(word) for word in words]
    checkpoint = load_checkpoint()
    start = time.perf_counter()
    model = Pronouncer(checkpoint)
    seconds = time.perf_counter() - start
    if words:
        found = {word: phonemes(model.predict(letters)) for word, letters in zip(words, spelled, strict=True)}
        click.echo(json.dumps(found) if as_json else "\n".join(f"{w}\t{found[w]}" for w in words))
        return
    baseline = NumpyPronouncer(checkpoint)
    letters = [spell(word) for word in WORDS]
    ours, theirs = [model.predict(w) for w in letters], [baseline.predict(w) for w in letters]
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    timing = measure(model, baseline, letters)
    if as_json:
        click.echo(json.dumps({
            "words": {w: phonemes(p) for w, p in zip(WORDS, ours, strict=True)}, "same as numpy": same,
            "seconds": {"compile": seconds, "word": timing.single, "word in a batch": timing.batch,
                        "word in numpy": timing.numpy}}))
        return
    for report in (model.encoder.report, model.decoder.report):
        click.echo("\n".join(brief(report)) + "\n")
    for word, numbers in zip(WORDS, ours, strict=True):
        click.echo(f"{word}\t{phonemes(numbers)}")
    click.echo("\n" + "\n".join(conclusion(timing, seconds, same)))


def brief(report: Report) -> Iterator[str]:
    """The passes that changed the graph, what they applied and missed, and what runs."""
    yield f"{', '.join(report.inputs)} -> {', '.join(report.outputs)}"
    for i, record in enumerate(report.passes, 1):
        remarks = [r for r in record.remarks if r.kind != "note"]
        if record.changed or remarks:
            yield f"  {i:3d} {record.name:40} {op_counts(record)}"
            yield from (f"        {remark}" for remark in remarks)
    for kernel in report.kernels:
        yield f"  runs on {kernel.backend}: {kernel.ops}"


def conclusion(timing: Timing, compile_seconds: float, same: int) -> Iterator[str]:
    yield f"{same} of {timing.words} words have the phonemes that g2p-en's own numpy code gives"
    yield f"compiled in {compile_seconds * 1e3:.0f} ms; time per word, median of {timing.rounds} interleaved rounds:"
    yield f"  {timing.numpy * 1e3:7.3f} ms  g2p-en's numpy code: the same steps and weights, numpy {np.__version__}"
    for seconds, how in ((timing.single, "word by word"), (timing.batch, f"the {timing.words} words as one batch")):
        yield f"  {seconds * 1e3:7.3f} ms  compiled, one thread, {how}: {timing.numpy / seconds:.1f} times as fast"
