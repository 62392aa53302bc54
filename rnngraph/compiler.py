"""compile(): trace -> passes -> segments -> kernels. This page is the whole compiler seen from above."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rnngraph import backends
from rnngraph.backends.registry import TARGETS
from rnngraph.data.packing import PackedSequence
from rnngraph.errors import CompileError, ImplementationError, InputError
from rnngraph.frontends.imported import ImportedModel, NeedsSize, NeedsValue, foreign_names, settling
from rnngraph.frontends.load import Inputs, frontend_of, load
from rnngraph.ir import RNN, Array, Graph, parse
from rnngraph.ir import verify as check
from rnngraph.nn import Input, Layer
from rnngraph.nn.context import Options as TraceOptions
from rnngraph.nn.trace import NoRecurrence, traced
from rnngraph.passes import PIPELINES
from rnngraph.passes import pipeline as read_pipeline
from rnngraph.report import KernelReport, Report
from rnngraph.report.dump import read
from rnngraph.report.numeric import NumericCheck
from rnngraph.report.report import signature
from rnngraph.rewrite import Instrument, PassContext, Pipeline, Snapshot
from rnngraph.runtime.inputs import InputPlan
from rnngraph.runtime.model import CompiledModel, Variant
from rnngraph.runtime.packed import check_packable
from rnngraph.runtime.placed import program_of
from rnngraph.runtime.program import Program
from rnngraph.runtime.segments import Segment, segment
from rnngraph.runtime.specialized import Needs, SpecializedModel
from rnngraph.runtime.streaming import streaming
from rnngraph.trials import Trials

PRECISIONS = ("f32", "tf32", "bf16")
VERIFY = (None, "each", "numeric")
MAX_THREADS = 1024
# what is left to do for an rnn node, and for a scan, whose implementation is chosen
EXPANDED = PIPELINES["default"].split("{fused-only=true},")[1]
CHOSEN = EXPANDED[EXPANDED.index("select-implementation"):]


def compile(model: object, inputs: Inputs = None, *, example_inputs: Any = None,
            example_kwargs: Mapping[str, Any] | None = None, params: Any = None, target: str = "auto",
            precision: str = "f32", pipeline: str | Pipeline = "default", threads: int | None = None,
            dims: Mapping[str, int] | None = None, verify: str | None = None, dump: str | Path | None = None,
            seed: int = 0, training: bool = False, autotune: bool = False, without: Sequence[str] = (),
            ) -> CompiledModel:
    """Compile a model to something that runs on numpy arrays.

    model      a layer or function of `rnngraph.nn` (then ``inputs`` says what it is given), an `rnngraph.ir.Graph`,
               IR text, or the path of a ``.rg`` file; a model from elsewhere: the path of an .onnx, .h5, .keras or
               -symbol.json file, an onnx.ModelProto, a torch.nn.Module (with ``example_inputs``), a Keras model
    inputs     of a model from elsewhere: Inputs or shapes by name or place, for inputs whose shapes it does not tell
    params     of an MXNet symbol: the path of its .params, or arrays by name; None takes the file beside it
    example_inputs  arrays (or tensors) that the model could be called with, in order or in a dict by name: a PyTorch
               module is exported with them (``example_kwargs``: those for keywords, beside others in order), any
               other model is checked to take them
    target     "cpu", "gpu", or "auto": where the whole model is estimated to be faster, counting the way of its inputs
               and outputs to a GPU and back; the cpu where there is no GPU. There every op gets the cheapest
               implementation that this machine can run
    precision  what products may be computed in: "f32"; "bf16" (on the CPU weights alone are rounded, on a GPU both
               factors; sums and states stay f32); on a GPU also "tf32". Where no implementation has it, it is f32:
               explain() says which
    pipeline   a name in `rnngraph.passes.PIPELINES`, a line of text, or a Pipeline
    threads    how many threads a call may use; None lets the backend decide
    dims       sizes to expect for symbols, as in {"time": 100, "batch": 1}: hints for cost models, never
               limits
    verify     "each": check the IR after every pass; "numeric": also run it, and name a pass that changed the
               numbers
    dump       a folder to write the report into
    autotune   on a GPU: measure the implementations of recurrences and take the fastest, not the lowest estimate;
               what was measured is kept in a tuning file beside the compile cache
    without    implementations that are not to be chosen, by name ("cupy.loop.bf16") or what names begin with
               ("cupy.cudnn", "cupy")
    seed       for weights that the model has not got yet, and for dropout; ``training=True`` keeps dropout

    Raises TraceError, ParseError, ImportModelError, SelectionError (with every candidate and why not), CompileError,
    InputError for example inputs that do not fit.
    A foreign model whose structure depends on the value of an input, or on a size, becomes a `SpecializedModel`:
    a program is compiled for each when it is called.

    >>> import numpy as np, rnngraph as rg
    >>> compiled = rg.compile(rg.nn.LSTM(4), rg.Input(("batch", "time", 3)))
    >>> compiled(np.zeros((2, 5, 3), np.float32)).shape
    (2, 4)
    """
    options = Options(target, precision, read_pipeline(pipeline) if isinstance(pipeline, str) else pipeline,
                      threads, {} if dims is None else dims, verify, seed, autotune, without)
    source, given = _source(model, inputs, example_inputs, params, example_kwargs)
    names = foreign_names(source)

    def compiled(source: Layer | Graph) -> CompiledModel:
        def build(variant: Variant) -> Program:
            start = time.perf_counter()
            kept: tuple[str, ...] = ()
            if isinstance(source, Layer):
                graph, kept = _traced(source, given, TraceOptions(
                    variant.lengths, variant.initial_state, training, seed, mask=variant.mask,
                    stateful=variant.stateful))
            else:
                graph = _as_it_is(source, variant)
            plan = streaming(graph) if variant.stream else None
            if variant.packed:
                check_packable(graph)
            expected = options
            if plan is not None and _has_gpu(options.target):  # launches are chosen for one step
                expected = replace(options, dims={plan.time: 1, **options.dims})
            program = build_program(graph if plan is None else plan.graph, expected, start, packed=variant.packed,
                                    labels=names[0])
            program.stream, program.kept = plan, kept
            program.packed_outputs = source.packed_outputs if isinstance(source, ImportedModel) else None
            return program

        return CompiledModel(build, names)

    made = _imported(source, compiled) if isinstance(source, ImportedModel) else compiled(source)
    if example_inputs is not None or example_kwargs:
        _try(made, source, example_inputs, example_kwargs)
    if dump is not None:
        made.report.dump(dump)
    return made


def _has_gpu(target: str) -> bool:
    return target == "gpu" or (target == "auto" and backends.default_registry().device("gpu").present)


def _try(made: CompiledModel, source: Layer | Graph, example: Any, keywords: Mapping[str, Any] | None) -> None:
    """Check that the model takes the example inputs, and compile what they need; InputError says what does not fit."""
    if isinstance(source, ImportedModel):
        example, keywords = source.arrays(example), source.arrays(keywords)
    try:
        if isinstance(example, Mapping):
            example, keywords = None, {**example, **(keywords or {})}
        if bad := [n for n in keywords or {} if not isinstance(n, str)]:
            raise InputError(f"expected names of {list(made.input_names)}, got {bad}")
        several = isinstance(example, list | tuple) and not isinstance(example, PackedSequence)
        made.prepare(*(() if example is None else example if several else (example,)), **(keywords or {}))
    except InputError as e:
        raise InputError(f"example_inputs do not fit: {e}") from e


def _traced(source: Layer, given: Input | Sequence[Input] | None, options: TraceOptions) -> tuple[
        Graph, tuple[str, ...]]:
    try:
        return traced(source, given, options)
    except NoRecurrence as e:
        if isinstance(source, ImportedModel):
            raise InputError(source.no_rows(e.what)) from e
        raise


def _imported(source: ImportedModel, compiled: Callable[[ImportedModel], CompiledModel]) -> CompiledModel:
    """The model; or, when its structure follows from values or sizes, one for each."""
    def attempt(values: Mapping[str, Array], sizes: Mapping[str, int]) -> CompiledModel | Needs:
        try:
            return settling(source.specialized(values, sizes) if values or sizes else source, compiled)
        except NeedsValue as e:
            return Needs(values=e.names, reasons=(str(e),))
        except NeedsSize as e:
            return Needs(sizes=e.symbols, reasons=(str(e),))

    first = attempt({}, {})
    if isinstance(first, CompiledModel):
        return first
    return SpecializedModel(attempt, {x.name: x.type for x in source.inputs}, source.output_names, first,
                            foreign_names(source))


@dataclass(frozen=True, slots=True)
class Options:
    """What compile() was asked for; CompileError, naming the choices, when a value is none of them."""

    target: str
    precision: str
    pipeline: Pipeline
    threads: int | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    verify: str | None = None
    seed: int = 0
    autotune: bool = False
    without: Sequence[str] = ()

    def __post_init__(self) -> None:
        _choose("target", self.target, TARGETS)
        _choose("precision", self.precision, PRECISIONS)
        if self.target == "cpu" and self.precision == "tf32":
            raise CompileError("precision 'tf32' is one of the gpu's; target cpu has f32 and bf16")
        if self.target == "cpu" and self.autotune:
            raise CompileError("autotune=True measures the gpu's implementations; target cpu has none to measure")
        _check_names(self.without)
        _choose("verify", self.verify, VERIFY)
        if not isinstance(self.pipeline, Pipeline):
            raise CompileError("pipeline must be a name of rnngraph.passes.PIPELINES, a line of text or a Pipeline, "
                               f"got {self.pipeline!r}")
        if self.threads is not None and not _whole(self.threads, 1):
            raise CompileError(f"threads must be a whole number >= 1 or None, got {self.threads!r}")
        if self.threads is not None and self.threads > MAX_THREADS:
            raise CompileError(f"threads must be at most {MAX_THREADS}, got {self.threads}")
        if not _whole(self.seed, 0):
            raise CompileError(f"seed must be a whole number >= 0, got {self.seed!r}")
        if not isinstance(self.dims, Mapping):
            raise CompileError(f"dims gives sizes >= 0 by symbol, got {self.dims!r}")
        if bad := {n: s for n, s in self.dims.items() if not isinstance(n, str) or not _whole(s, 0) or s >= 2**63}:
            raise CompileError(f"dims gives sizes >= 0 by symbol, got {bad}")


def build_program(traced: Graph, options: Options, started: float | None = None, *, packed: bool = False,
                  labels: Mapping[str, str] | None = None) -> Program:
    """Run the pipeline on a copy of ``traced``, cut the result into segments, let their backends build them. An
    implementation that does not build for a layer is left out there, which the report says, and the next one taken.

    ``started`` is when the work on it began (`time.perf_counter`), if that was earlier. ``packed``: rows will be sorted
    by falling length. ``labels``: what callers call inputs, where that is not the graph's name.
    """
    started = time.perf_counter() if started is None else started
    without: dict[str | tuple[str, str], str] = dict.fromkeys(options.without, "")
    while True:
        try:
            program = _built(traced, options, without, packed=packed, labels=labels)
        except ImplementationError as e:
            if (e.impl, e.layer) in without:
                raise
            without[e.impl, e.layer] = f"{e.impl} did not build for layer {e.layer!r}, another was taken: {e}"
            continue
        program.report.notes += filter(None, without.values())
        program.report.seconds = time.perf_counter() - started
        return program


def _built(traced: Graph, options: Options, without: Collection[str | tuple[str, str]], *, packed: bool,
           labels: Mapping[str, str] | None) -> Program:
    graph = traced.clone()
    registry = backends.default_registry(precision=options.precision, without=without)
    context = PassContext(options.target, registry, dict(options.dims),
                          {"threads": options.threads, "precision": options.precision, "packed": packed,
                           "autotune": options.autotune})
    context.trial = Trials(registry, partial(_alone, options=options), measure=options.autotune)
    instruments: list[Instrument] = []
    if options.verify == "numeric":
        instruments.append(NumericCheck(traced, dict(options.dims), options.seed))
    records = options.pipeline.run(graph, context, instruments=instruments,
                                   verify_each=options.verify is not None)
    report = Report(
        graph.name, options.target, options.precision,
        signature(graph.input_names, [v.type for v in graph.inputs]),
        signature(graph.output_names, [v.type for v in graph.outputs]),
        Snapshot(traced), records,
        notes=[f"backend {name} is not available: {why}" for name, why in registry.unavailable.items()])
    segments, kernels = segment(graph), []
    for part in segments:
        start = time.perf_counter()
        kernels.append(backends.load(part.backend).build(graph, part, context))
        report.kernels.append(KernelReport(part.backend, _summary(part), time.perf_counter() - start,
                                           kernels[-1].artifacts))
    return program_of(graph, segments, kernels, report, InputPlan(traced, labels))


def _alone(graph: Graph, target: str, *, options: Options) -> Program:
    """A graph of one op whose implementation is chosen, for a trial of it."""
    text = EXPANDED if graph.block.body[-1].opdef is RNN else CHOSEN
    return build_program(graph, replace(options, target=target, pipeline=read_pipeline(text), verify=None))


def _as_it_is(graph: Graph, variant: Variant) -> Graph:
    """A graph is called as it stands, or streamed; InputError when ``variant`` asks for other inputs."""
    own_lengths = variant.stream and "lengths" in graph.input_names
    if variant.initial_state or variant.mask or (variant.lengths and not own_lengths):
        raise InputError(f"graph {graph.name!r} takes {list(graph.input_names)}; for lengths=, mask= or "
                         "initial_state= give the layer itself to compile, or trace it with them")
    return graph


def _source(model: object, inputs: Inputs, example_inputs: Any, params: Any = None,
            example_kwargs: Mapping[str, Any] | None = None) -> tuple[Layer | Graph, Input | Sequence[Input] | None]:
    """What to compile, a layer or a graph, and the inputs to trace a layer with (None: it has its own)."""
    if params is not None and frontend_of(model) != "mxnet":
        raise CompileError("params= is for an MXNet symbol, whose file has no weights")
    if isinstance(model, Layer):
        if isinstance(inputs, Mapping):
            raise CompileError("inputs by name are for models from files; give a layer's inputs in its call's order")
        return model, inputs
    if isinstance(model, Graph):
        graph = model
    elif isinstance(model, str) and "{" in model:
        graph = parse(model)
    elif isinstance(model, str | Path) and Path(model).suffix == ".rg":
        graph = read(model)
    else:
        return load(model, inputs, example_inputs, params, example_kwargs), None
    if inputs is not None:
        raise CompileError(f"graph {graph.name!r} has its inputs already; leave inputs= out")
    check(graph)  # a trace is well typed by construction, somebody's graph need not be
    return graph, None


def _summary(part: Segment) -> str:
    counts = Counter(op.impl if op.impl.endswith(f".{op.name}") else f"{op.name} as {op.impl}"
                     for op in part.ops)
    return ", ".join(name + (f" x{n}" if n > 1 else "") for name, n in counts.items())


def _check_names(without: object) -> None:
    """Names in ``without`` are those of implementations, or what they begin with."""
    if isinstance(without, str) or not isinstance(without, Collection):
        raise CompileError(f"without is a list of names of implementations, got {without!r}")
    if not without:
        return
    names = [i.name for i in backends.default_registry().implementations]
    for name in without:
        if not any(known == name or known.startswith(f"{name}.") for known in names):
            raise CompileError(f"without: no implementation is called {name!r}; there are {', '.join(sorted(names))}")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _choose(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise CompileError(f"{name} {value!r} is not available; choose from {', '.join(map(str, choices))}")
