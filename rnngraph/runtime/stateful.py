"""States that stay from call to call: what layers with ``stateful=True`` keep, as in Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

import numpy as np

from rnngraph.errors import InputError
from rnngraph.ir import Array, bind_dims, resolve
from rnngraph.runtime.inputs import InputSpec
from rnngraph.runtime.program import Program


class KeptStates:
    """The kept states of one compiled model. Calls of it take turns; each sees what the one before left."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._host: Callable[[Array], Array] = np.asarray  # from where the states lie
        self._arrays: dict[str, Array] = {}  # by the names of the outputs: lstm.h

    def copies(self) -> dict[str, Array]:
        with self._lock:
            return {n: np.array(self._host(a)) for n, a in self._arrays.items()}

    def run(self, program: Program, values: Mapping[str, object], count: int) -> list[Array]:
        """The program's first ``count`` outputs; its states come from ``values`` where they are given, else from the
        call before."""
        with self._lock:
            inputs = state_inputs(program)
            kept = {spec.name: self._arrays[n] for n, spec in inputs.items() if n in self._arrays}
            states = [i for i, n in enumerate(program.input_names) if n in kept and n not in values]
            values = {**kept, **values}
            self._check_batch(program, values, inputs)
            values = {**values, **zero_states(program, values)}
            ends = [program.output_names.index(n) for n in program.kept]
            outputs, new = program.run_states([values[n] for n in program.input_names], states, ends, count)
            self._arrays = {n: a for n, a in zip(program.kept, new, strict=True) if a.size}
            self._host = program.on_host
            return outputs

    def _check_batch(self, program: Program, values: Mapping[str, object], inputs: Mapping[str, InputSpec]) -> None:
        """Say what is wrong when the rows are not those of the call before."""
        try:
            _bound(program, values)
        except InputError:
            own = {n: a for n, a in values.items() if n not in {s.name for s in inputs.values()}}
            dims = _bound(program, own)
            for n, spec in inputs.items():
                kept, shape = self._arrays.get(n), resolve(spec.type.shape, dims)
                if kept is not None and values[spec.name] is kept and kept.shape != shape:
                    raise InputError(f"the state {n!r} that the layer has kept is {list(kept.shape)}, this call needs "
                                     f"{list(shape)}: a stateful layer keeps its batch; call reset_states() first"
                                     ) from None
            raise

    def reset(self, program: Program, states: Mapping[str, object] | str | None) -> None:
        if states is None:
            with self._lock:
                self._arrays = {}
            return
        if not isinstance(states, str | Mapping):
            raise InputError("reset_states: expected a layer's or state's name, or a mapping from names to arrays, got "
                             f"{type(states).__name__}")
        given = {states: None} if isinstance(states, str) else dict(states)
        inputs = {n: spec for n, spec in state_inputs(program).items()}
        new: dict[str, Array | None] = {}
        for key, value in given.items():
            names = [n for n in inputs if n == key or n.startswith((f"{key}.", f"{key}/"))]
            if not names:
                raise InputError(f"reset_states: unknown layer or state {key!r}; the states are {list(inputs)}")
            arrays = [None] * len(names) if value is None else _listed(key, names, value)
            new.update({n: None if a is None else _checked(inputs[n], n, a)
                        for n, a in zip(names, arrays, strict=True)})
        with self._lock:
            found = {**self._arrays, **new}
            self._arrays = {n: a for n, a in found.items() if a is not None}


def _listed(key: str, names: list[str], value: object) -> list[object]:
    arrays = list(value) if isinstance(value, list | tuple) else [value]
    if len(arrays) != len(names):
        raise InputError(f"reset_states: {key!r} has the states {names}, got {len(arrays)} array(s)")
    return arrays


def _checked(spec: InputSpec, name: str, given: object) -> Array:
    array = np.array(InputSpec(name, spec.type).array(given))
    bind_dims({name: spec.type}, {name: array})
    return array


def state_inputs(program: Program) -> dict[str, InputSpec]:
    """The inputs by which kept states come in, by the states' names; a layer whose initial state the model gives has
    none."""
    specs = {s.name: s for s in program.plan.specs}
    found = {n: specs.get(f"{n}{'_' if n[-1].isdigit() else ''}0") for n in program.kept}
    return {n: s for n, s in found.items() if s is not None}


def zero_states(program: Program, values: Mapping[str, object]) -> dict[str, Array]:
    """Zeros for the program's inputs that nobody gave: states."""
    missing = [s for s in program.plan.specs if s.name not in values]
    if not missing:
        return {}
    dims = _bound(program, values)
    return {s.name: np.zeros(resolve(s.type.shape, dims), s.type.dtype.numpy) for s in missing}


def _bound(program: Program, values: Mapping[str, object]) -> dict[str, int]:
    """The symbols' sizes, from the inputs that are there."""
    specs = [s for s in program.plan.specs if s.name in values]
    return bind_dims({s.name: s.type for s in specs}, {s.name: s.array(values[s.name]) for s in specs})
