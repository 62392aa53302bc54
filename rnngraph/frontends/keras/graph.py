"""Models: a Sequential or functional configuration -> nn.Sequential or nn.Model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rnngraph import nn
from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import identifiers
from rnngraph.frontends.keras import operations, recurrent, simple
from rnngraph.frontends.keras.config import Config, layers_of, policy_name
from rnngraph.frontends.keras.names import Counter, identifier, snake_case
from rnngraph.frontends.keras.nodes import Call, Reference, calls_of, output_names, references
from rnngraph.frontends.keras.variables import Made, Variables, inside
from rnngraph.ir import Dim, Shape
from rnngraph.nn import Input, Layer
from rnngraph.nn.merge_layers import Merge
from rnngraph.nn.tensor import Tensor

MAKERS = {**simple.MAKERS, **recurrent.MAKERS}
CODE = ("Lambda", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
MAX_LISTED = 50
MODELS = ("Sequential", "Functional", "Model")
DTYPES = {"float32": "f32", "float64": "f32", "float16": "f32", "bfloat16": "f32", "int32": "i32", "int64": "i64",
          "int16": "i16", "int8": "i8", "uint8": "u8", "bool": "bool"}


@dataclass(frozen=True, slots=True)
class Part:
    """A layer of a model: its name in Keras, its place in a file of Keras 3, and what it became."""

    name: str
    place: str
    made: Made


@dataclass(frozen=True, slots=True)
class Builder:
    """How a model is built.

    keras     the major version whose meaning the configuration has
    shapes    of a layer of the outermost model, the shapes of its arrays in a file of Keras 2
    custom    layers by class, of the caller
    given     the inputs that the caller says, by name or place
    shared    whether open dims of different inputs, at one axis, have one size
    """

    keras: int
    shapes: Callable[[str], list[tuple[int, ...]]]
    custom: Mapping[str, Callable[[Mapping[str, Any]], Layer]] = field(default_factory=dict)
    given: Mapping[str | int, Input | Shape] = field(default_factory=dict)
    shared: bool = False

    def outermost(self, entry: Any) -> tuple[nn.Model | nn.Sequential, list[Part]]:
        """The model, and its layers."""
        c = Config(entry, self.keras)
        if c.class_name not in MODELS:
            raise c.fail("a model of a class of its own is code, which is not in the file; it can be read where it is "
                         "a Sequential or a functional model")
        if found := list(self.unsupported(c)):
            more = f"; and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
            raise ImportModelError("; ".join(found[:MAX_LISTED]) + more)
        return self._sequential(c, top=True) if c.class_name == "Sequential" else self._functional(c, top=True)

    # --- layers -------------------------------------------------------------------------------------------------------

    def unsupported(self, c: Config) -> Iterator[str]:
        """A sentence for each layer, in whatever depth, that nothing here makes."""
        if c.class_name in self.custom or c.class_name == "InputLayer":
            return
        if c.class_name in MODELS:
            for entry in layers_of(c):
                yield from self.unsupported(c.inner(entry))
        elif c.class_name in ("TimeDistributed", "Bidirectional"):
            yield from self.unsupported(c.inner(c.get("layer")))
            if c.has("backward_layer"):
                yield from self.unsupported(c.inner(c.get("backward_layer")))
        elif operations.is_operation(c):
            if c.class_name not in operations.KNOWN:
                yield f"{c.where}: this operation is not supported; known are {', '.join(operations.KNOWN)}"
        elif c.class_name in CODE:
            yield (f"{c.where} holds code of its own, which is not run; rebuild the model with layers in its place, or "
                   "cut it there")
        elif c.class_name not in MAKERS:
            yield (f"{c.where}: this class of layer is not supported; a layer of your own can be given: "
                   f"rg.from_keras(..., layers={{{c.class_name!r}: function of its config}})")

    def layer(self, c: Config) -> Made:
        """The layer of a configuration."""
        if c.class_name in self.custom:
            layer = self.custom[c.class_name](c.values)
            if not isinstance(layer, Layer):
                raise c.fail(f"layers[{c.class_name!r}] must give a layer of rnngraph.nn, got {type(layer).__name__}")
            return Made(layer, None)
        if c.class_name in MODELS:
            model, parts = self._sequential(c) if c.class_name == "Sequential" else self._functional(c)
            return Made(model, tuple(v for part in parts for v in _inside(part, c)))
        if c.class_name == "TimeDistributed":
            return self._time_distributed(c)
        if c.class_name == "Bidirectional":
            made = recurrent.bidirectional(c, self.layer)
        else:
            maker = MAKERS.get(c.class_name)
            if maker is None:
                raise ImportModelError("; ".join(self.unsupported(c)))
            made = maker(c)
        c.done()
        return self._frozen(c, made)

    def _frozen(self, c: Config, made: Made) -> Made:
        if c.values.get("trainable") is False and made.variables is not None:
            return Made(made.layer, tuple(v.frozen() for v in made.variables))
        return made

    def _time_distributed(self, c: Config) -> Made:
        one = c.inner(c.get("layer"))
        inner = self.layer(one)
        c.done()
        inner.layer.name = None
        layer = nn.TimeDistributed(inner.layer, name=identifier(c.name))
        return Made(layer, None if inner.variables is None else inside(inner.variables, "layer", ""))

    # --- models -------------------------------------------------------------------------------------------------------

    def _sequential(self, c: Config, top: bool = False) -> tuple[nn.Sequential, list[Part]]:
        entries = layers_of(c)
        first: Input | None = None
        named: dict[str, Input] = {}  # by the name in the file
        parts: list[Part] = []
        count = Counter()
        names = self._names(c, entries)
        for i, entry in enumerate(entries):
            one = self._entry(c, entry, top)
            if one.class_name == "InputLayer":
                first = self._input(one, 0) if top else None
                named = {one.name: first} if first is not None else {}
                continue
            if i == 0 and top:
                first = self._first(c, one)
            made = self.layer(one)
            made.layer.name = names[i]
            parts.append(Part(one.name, f"layers/{count.name(snake_case(one.class_name))}", made))
        if not parts:
            raise c.fail("a Sequential without layers")
        if top and first is None:
            raise c.fail("the file does not say the input's shape; give it: inputs=rg.Input(('batch', 'time', 8))")
        if first is not None and isinstance(parts[0].made.layer, nn.Embedding) and not self.typed():
            first = Input(first.shape, "i32", first.name)
            named = dict.fromkeys(named, first)
        layers = [p.made.layer for p in parts]
        model = nn.Sequential(layers if first is None else [first, *layers], name=identifier(c.name))
        model.foreign = (_sanitised(named), {})
        return model, parts

    def typed(self) -> bool:
        """Whether the caller says the dtype of an input."""
        return any(isinstance(said, Input) for said in self.given.values())

    def _first(self, c: Config, one: Config) -> Input | None:
        """The input of a Sequential that has no InputLayer."""
        if self.given:
            said = next(iter(self.given.values()))
            return said if isinstance(said, Input) else Input(said, "f32")
        shape = one.values.get("batch_input_shape") or one.values.get("batch_shape") or c.get("build_input_shape", None)
        if shape is None:
            return None
        return self._input(c.inner({"class_name": "InputLayer", "config": {
            "name": "x", "batch_shape": shape, "dtype": one.values.get("dtype")}}), 0)

    def _entry(self, c: Config, entry: Any, top: bool) -> Config:
        one = c.inner(entry)
        if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
            one.name = entry["name"]
        if top:
            one.stored = self.shapes(one.name)
        return one

    def _names(self, c: Config, entries: Sequence[Any]) -> list[str]:
        """Distinct names for the layers."""
        given = [(c.inner(e).name or f"layer_{i}") for i, e in enumerate(entries)]
        if len(set(given)) != len(given):
            given = [f"{n}_{i}" if given.index(n) != i else n for i, n in enumerate(given)]
        return list(identifiers(given, "l").values()) if len(set(given)) == len(given) else [
            f"layer_{i}" for i in range(len(given))]

    def _input(self, c: Config, number: int) -> Input:
        """The input of an InputLayer; where its sizes are open they are symbols."""
        found = self.given.get(c.name, self.given.get(number))
        if isinstance(found, Input):
            return found
        shape = c.get("batch_shape", c.get("batch_input_shape", None))
        if shape is None and c.has("input_shape"):
            shape = [None, *c.get("input_shape", [])]
        if not isinstance(shape, list | tuple) or not 1 <= len(shape) <= 16 or not all(
                d is None or (isinstance(d, int) and not isinstance(d, bool) and 0 < d < 2**31) for d in shape):
            raise c.fail(f"the shape of the input must be sizes and nulls, got {str(shape)[:80]}")
        dtype = c.get("dtype", "float32")
        dtype = policy_name(dtype)
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise c.fail(f"inputs of dtype {str(dtype)[:40]!r} are not supported")
        own = "" if self.shared or number == 0 else str(number)
        symbols = ("batch", f"time{own}", *(f"d{i}{'_' + own if own else ''}" for i in range(2, 16)))
        dims: tuple[Dim, ...] = tuple(symbols[i] if d is None else d for i, d in enumerate(shape))
        return Input(dims if found is None else found, DTYPES[dtype], identifier(c.name) or f"x{number}")

    def _functional(self, c: Config, top: bool = False) -> tuple[nn.Model, list[Part]]:
        graph = _Graph(self, c, top)
        inputs = [graph.inputs[r.layer] for r in references(c, c.get("input_layers")) if r.layer in graph.inputs]
        wanted = references(c, c.get("output_layers"))
        graph.count([*wanted, *(r for *_, call in graph.calls for r in call.references())])
        graph.run()
        model = nn.Model(inputs, [graph.find(r) for r in wanted], name=identifier(c.name))
        outputs = identifiers(output_names(c, wanted), "y")
        model.output_names = list(outputs.values())
        if top:
            model.foreign = (_sanitised(graph.inputs), {own: n for n, own in outputs.items() if own != n})
        return model, graph.parts


def _sanitised(inputs: Mapping[str, Input]) -> dict[str, str]:
    """The file's names of inputs whose names are made of them."""
    return {x.name: name for name, x in inputs.items() if x.name == identifier(name) != name}


class _Graph:
    """The layers of a functional model, called in the order in which their inputs become known."""

    def __init__(self, builder: Builder, c: Config, top: bool) -> None:
        self.config = c
        self.inputs: dict[str, Input] = {}
        self.parts: list[Part] = []
        self.functions: dict[str, Callable[..., Any]] = {}
        self.offsets: dict[str, int] = {}  # of layers that are models
        self.calls: list[tuple[str, int, Call]] = []
        self.results: dict[tuple[str, int], list[Tensor]] = {}
        entries = layers_of(c)
        names = builder._names(c, entries)
        count = Counter()
        configs = [builder._entry(c, entry, top) for entry in entries]
        indices = _taken_as_indices(configs)
        for one, name in zip(configs, names, strict=True):
            if one.name in self.functions or one.name in self.inputs:
                raise one.fail("two layers have this name")
            if operations.is_operation(one):
                self.functions[one.name] = operations.function(one)
            elif one.class_name == "InputLayer":
                count.name("input_layer")
                made = builder._input(one, len(self.inputs))
                if one.name in indices and not builder.typed():
                    made = Input(made.shape, "i32", made.name)
                self.inputs[one.name] = made
                self.results[one.name, 0] = [made]
                continue
            else:
                place = f"layers/{count.name(snake_case(one.class_name))}"
                layer = builder.layer(one)
                if one.class_name in MODELS:
                    self.offsets[one.name] = -len(calls_of(one))
                layer.layer.name = name
                self.parts.append(Part(one.name, place, layer))
                self.functions[one.name] = layer.layer
            self.calls += [(one.name, i, call) for i, call in enumerate(calls_of(one))]

    def count(self, found: Sequence[Reference]) -> None:
        """See from all references at which number the calls of models begin."""
        for name, calls in self.offsets.items():
            last = max((r.node for r in found if r.layer == name), default=0)
            self.offsets[name] = max(0, last + 1 + calls)

    def run(self) -> None:
        """Make all calls; ImportModelError where they wait for each other."""
        left = self.calls
        while left:
            waiting = []
            for name, number, call in left:
                if all(self._call(r) in self.results for r in call.references()):
                    result = self._apply(name, call)
                    self.results[name, number] = list(result) if isinstance(result, tuple) else [result]
                else:
                    waiting.append((name, number, call))
            if len(waiting) == len(left):
                raise self.config.fail(f"the calls of {', '.join(repr(n) for n, *_ in waiting)[:200]} wait for each "
                                       "other, or for layers that are not there")
            left = waiting

    def _call(self, reference: Reference) -> tuple[str, int]:
        """Which call a reference means: Keras counts a model's own, which is not in the file, as its first."""
        return reference.layer, reference.node - self.offsets.get(reference.layer, 0)

    def find(self, reference: Reference) -> Tensor:
        found = self.results.get(self._call(reference), [])
        if reference.tensor >= len(found):
            raise self.config.fail(f"layer {reference.layer[:80]!r} has no output {reference.tensor} of call "
                                   f"{reference.node}")
        return found[reference.tensor]

    def _apply(self, name: str, call: Call) -> Any:
        args, kwargs = call.resolved(self.find)
        function = self.functions[name]
        if isinstance(function, nn.RNN | nn.Bidirectional) and args and isinstance(args[0], list):
            (x, *states), *rest = args  # Keras 2 has the initial states behind the input
            args = [x, *rest]
            kwargs = {**kwargs, **({"initial_state": states} if states else {})}
        if isinstance(function, Layer) and not isinstance(function, Merge | nn.Attention | nn.Model) and args and \
                isinstance(args[0], list):
            if len(args[0]) != 1:
                raise ImportModelError(f"layer {name!r} takes one input, but is called with a list of {len(args[0])}")
            args = [args[0][0], *args[1:]]
        if not isinstance(function, nn.RNN | nn.Bidirectional) and isinstance(function, Layer):
            args, kwargs = _masked(args, dict(kwargs))
        return function(*args, **self._known(name, function, kwargs))

    def _known(self, name: str, function: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments that say something; ImportModelError for one that the layer does not take."""
        given = {k: v for k, v in kwargs.items() if v is not None and k != "training"}
        known: tuple[str, ...] = ()
        if isinstance(function, nn.RNN | nn.Bidirectional):
            known = ("initial_state", "mask")
        elif isinstance(function, nn.MultiHeadAttention):
            known = ("query", "value", "key", "attention_mask", "use_causal_mask", "return_attention_scores")
        elif isinstance(function, nn.Attention):
            known = ("use_causal_mask", "return_attention_scores")
        elif not isinstance(function, Layer):
            return given
        odd = [k for k, v in given.items() if k not in known and v is not False]
        if odd:
            raise ImportModelError(f"layer {name!r} is called with {odd[0]}={str(given[odd[0]])[:60]}, which is not "
                                   "supported")
        return {k: v for k, v in given.items() if k in known}


def _masked(args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The call with the masks that it is given where ours are: with the tensors."""
    mask = kwargs.pop("mask", None)
    if isinstance(mask, Tensor) and args and isinstance(args[0], Tensor):
        args = [operations.with_mask(args[0], mask), *args[1:]]
    elif isinstance(mask, list) and args and isinstance(args[0], list):
        pairs = zip(args[0], mask, strict=True)
        args = [[x if m is None else operations.with_mask(x, m) for x, m in pairs], *args[1:]]
    elif mask is not None:
        kwargs["mask"] = mask
    for i, name in enumerate(("query", "value", "key")):
        given = kwargs.pop(f"{name}_mask", None)
        if given is not None and i < len(args):
            args = [operations.with_mask(a, given) if i == k else a for k, a in enumerate(args)]
        elif given is not None and name in kwargs:
            kwargs[name] = operations.with_mask(kwargs[name], given)
    return args, kwargs


def _inside(part: Part, c: Config) -> Iterator[Variables]:
    if part.made.variables is None:
        raise c.fail(f"a layer of the caller's ({part.name!r}) in a model within a model is not supported")
    assert part.made.layer.name is not None
    yield from inside(part.made.variables, part.place, part.made.layer.name)


def _taken_as_indices(configs: Sequence[Config]) -> set[str]:
    """The inputs that go to embeddings alone: their indices are whole numbers, whatever the file says."""
    users: dict[str, set[str]] = {}
    for one in configs:
        for call in calls_of(one) if one.class_name != "InputLayer" else ():
            for reference in call.references():
                users.setdefault(reference.layer, set()).add(one.class_name)
    return {name for name, classes in users.items() if classes == {"Embedding"}}
