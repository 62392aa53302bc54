"""to_onnx: a model defined here, as an ONNX model for other runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rnngraph.errors import ExportError
from rnngraph.frontends.imported import ImportedModel, NeedsSize, NeedsValue, foreign_names, settling
from rnngraph.frontends.load import Inputs, load
from rnngraph.frontends.to_onnx import to_model
from rnngraph.ir import Graph, parse, verify
from rnngraph.nn import Input, Layer, trace
from rnngraph.passes import run
from rnngraph.report.dump import read

# The fused form, as far as ONNX has ops for it: its recurrent ops have one layer, and one or two directions.
PIPELINE = ("canonicalize,fold-constants,cse,dce,roll-steps,hoist-invariant,iterate-sequences,masks-to-lengths,"
            "raise-rnn,merge-bidirectional,fold-constants,cse,dce")


def to_onnx(model: object, path: str | Path | None = None, inputs: Inputs = None, *, opset: int | None = None,
            lengths: bool = False, initial_state: bool = False, mask: bool = False,
            example_inputs: Sequence[Any] | None = None, params: Any = None, pipeline: str = PIPELINE) -> Any:
    """Write a model as ONNX: recurrences are LSTM, GRU and RNN nodes where these say them, and Scan where not.

    model    a layer of `rnngraph.nn` (then ``inputs`` says what it is given), an `rnngraph.ir.Graph`, IR text, or
             whatever `rnngraph.compile` reads: .rg, .onnx, .h5, .keras, -symbol.json (``params``), a torch.nn.Module
             (``example_inputs``), a Keras model
    path     where to write it; None only returns it
    opset    18 to 23 (default)
    lengths, initial_state, mask  further inputs of a layer, as of `rnngraph.trace`

    Returns the onnx.ModelProto. Symbolic sizes keep their names; inputs and outputs are those of the graph, or of the
    foreign file. Raises ExportError that names the ops which cannot be written (random masks of training),
    MissingExtraError without the package onnx.

    Example:
        >>> import rnngraph as rg
        >>> proto = rg.to_onnx(rg.nn.Bidirectional(rg.nn.LSTM(8)), inputs=rg.Input(("batch", "time", 4)))
        >>> [node.op_type for node in proto.graph.node if node.op_type in ("LSTM", "Scan")]
        ['LSTM']
    """
    source: object = model
    if not isinstance(model, Layer | Graph):
        if isinstance(model, str) and "{" in model:
            source = parse(model)
        elif isinstance(model, str | Path) and Path(model).suffix == ".rg":
            source = read(model)
        else:
            source = load(model, inputs, example_inputs, params)
    names = foreign_names(source)
    if isinstance(source, Layer):
        graph = _traced(source, inputs, lengths=lengths, initial_state=initial_state, mask=mask)
    else:
        assert isinstance(source, Graph)
        verify(source)
        graph = source.clone()
    run(pipeline, graph, verify_each=False)
    made = to_model(graph, opset, names)
    if path is not None:
        Path(path).write_bytes(made.SerializeToString())
    return made


def _traced(model: Layer, inputs: Inputs, **options: bool) -> Graph:
    given: Input | Sequence[Input] | None
    if isinstance(model, ImportedModel):
        given = None
    elif isinstance(inputs, Input) or inputs is None or isinstance(inputs, list | tuple):
        given = inputs
    else:
        raise ExportError("inputs by name are for models from files; give a layer's inputs in its call's order")
    try:
        if isinstance(model, ImportedModel):
            return settling(model, lambda settled: trace(settled, None, **options))
        return trace(model, given, **options)
    except (NeedsValue, NeedsSize) as e:
        raise ExportError(f"the structure of the model is not fixed: {e}; write model.specialized(values by input, "
                          "sizes by symbol), or --value on the command line") from None
