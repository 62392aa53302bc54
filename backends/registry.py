"""What backends register and selection chooses from: implementations with constraints (data, each with its
sentence) and costs.

A backend is an object with a name, implementations and `build`; see `Backend`. Nothing here knows a concrete
backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from rnngraph.ir import Array, Cost, Dims, Graph, Op
from rnngraph.ir.placement import placements
from rnngraph.runtime.segments import Segment

TARGETS = ("cpu", "gpu", "auto")


# --- the machine ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rates:
    """What one engine sustains: flops/s, bytes/s, seconds to start a piece of work, seconds per scan step.

    Of a GPU also bytes/s from its last-level cache and how many bytes that holds, and bytes/s from the shared memories
    of all blocks together.
    """

    flops: float
    bytes: float
    launch: float
    step: float = 0.0
    cached: float = 0.0
    cache: int = 0
    shared: float = 0.0

    def seconds(self, cost: Cost, *, launches: float = 1.0, steps: float = 0.0) -> float:
        """Time by the roofline: the slower of computing and moving, plus what starting the work costs."""
        work = max(cost.flops / self.flops, cost.bytes / self.bytes)
        return work + launches * self.launch + steps * self.step


@dataclass(frozen=True, slots=True)
class Machine:
    """The constants of the cost model. The defaults are round numbers of a small server; ``source`` says
    whose they are.

    python  numpy called op by op: what the reference backend does
    cpu     native code on the CPU, one thread
    gpu     a data-centre GPU; `step` is one grid-wide barrier
    link    the way between the host's memory and the GPU's
    """

    python: Rates = Rates(flops=1e10, bytes=5e9, launch=4e-6, step=2e-6)
    cpu: Rates = Rates(flops=6e10, bytes=2e10, launch=5e-7, step=1e-7)
    gpu: Rates = Rates(flops=2e13, bytes=1.5e12, launch=8e-6, step=3e-6, cached=4e12, cache=40 << 20, shared=1e13)
    link: Rates = Rates(flops=float("inf"), bytes=2e10, launch=1e-5)
    source: str = "default"


@dataclass(frozen=True, slots=True)
class Device:
    """What was found on this machine for one target.

    target    "cpu" or "gpu"
    present   whether there is such a device at all
    features  what is there, by name: "cupy", "cudnn", "sm_90", ...
    missing   what is not there, by name, each with why and how to get it
    limits    what it holds, by name: of a GPU "sms", bytes of "shared" memory of a block, bytes of its "l2" cache
    versions  of what runs it: "driver", "cupy", ...
    unproven  whether implementations are to be tried on it before they are chosen
    precision what the caller lets products be computed in: "f32", or something faster
    """

    target: str
    name: str
    present: bool = True
    features: frozenset[str] = frozenset()
    missing: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    unproven: bool = False
    precision: str = "f32"

    def has(self, feature: str) -> bool | str:
        """True, or why ``feature`` is missing: the result that a constraint's check wants."""
        return True if feature in self.features else self.missing.get(feature, False)


HOST = Device("cpu", "host CPU")


# --- implementations --------------------------------------------------------------------------------------

Check: TypeAlias = Callable[[Op, Device], bool | str]
CostModel: TypeAlias = Callable[[Op, Dims, Machine], float]


@dataclass(frozen=True, slots=True)
class Constraint:
    """One condition for an implementation: a name, a sentence for the user, and the check.

    ``check(op, device)`` returns True when it holds, False when it does not, or, when it does not, a string
    with the details ("hidden size is 48"), which is shown behind the sentence.
    """

    name: str
    sentence: str
    check: Check

    def failure(self, op: Op, device: Device) -> str | None:
        """None when the constraint holds, else ``name: sentence (details)``."""
        outcome = self.check(op, device)
        if outcome is True:
            return None
        details = f" ({outcome})" if isinstance(outcome, str) else ""
        return f"{self.name}: {self.sentence}{details}"


@dataclass(frozen=True, slots=True)
class Implementation:
    """One way to run ops of the kinds ``ops``. ``name`` is ``backend.something``; it becomes the op's
    ``impl``.

    ``cost(op, dims, machine)`` estimates the seconds of one call. It is asked only when all constraints hold.
    ``precision``: considered only where compile() asks for it. ``tried``: on a device that is `Device.unproven` it is
    chosen for an op only after it ran there and was right. ``last``: it takes what nothing else does; no pass prepares
    a graph for it.
    """

    name: str
    backend: str
    target: str
    ops: frozenset[str]
    constraints: tuple[Constraint, ...]
    cost: CostModel
    tried: bool = False
    precision: str = "f32"
    last: bool = False

    def __post_init__(self) -> None:
        if self.name.split(".")[0] != self.backend or "." not in self.name:
            raise ValueError(f"an implementation of backend {self.backend!r} is named "
                             f"'{self.backend}.<what>', got {self.name!r}")
        if self.target not in ("cpu", "gpu"):
            raise ValueError(f"implementation {self.name!r}: target must be cpu or gpu, got {self.target!r}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One implementation considered for one op: the constraints that fail; the estimate when none does, or what was
    measured."""

    implementation: Implementation
    failures: tuple[str, ...]
    seconds: float | None
    measured: bool = False

    @property
    def name(self) -> str:
        return self.implementation.name


def _is_placed_on(target: str) -> Check:
    def check(op: Op, device: Device) -> bool | str:
        other = {d: layer for d, layer in placements(op).items() if d != target}
        return "; ".join(f"layer {layer!r} is placed on {d}" for d, layer in other.items()) or True
    return check


# what holds for every implementation of a target: layers run where nn.DeviceWrapper and nn.DeviceLayer put them
PLACED = {t: Constraint("placed", f"the layer must be free to run on the {t}", _is_placed_on(t)) for t in TARGETS[:2]}


class Registry:
    """The implementations of one compile, in the order of their backends, and what they need to know to
    choose.

    ``devices`` finds the device of a target when the first constraint asks; a target without an entry is
    absent. ``unavailable`` says why a backend of the table could not be loaded. ``without``: names of implementations,
    or what they begin with up to a dot, that are not to be chosen; or (name, layer) of one that did not
    build, with no layer for all.
    """

    def __init__(self, implementations: Iterable[Implementation], *,
                 devices: Mapping[str, Callable[[], Device]] | None = None, machine: Machine | None = None,
                 unavailable: Mapping[str, str] | None = None, precision: str = "f32",
                 without: Iterable[str | tuple[str, str]] = ()) -> None:
        self.implementations = tuple(implementations)
        self.precision = precision
        self.without = frozenset(without)
        self.machine = machine or Machine()
        self.unavailable = dict(unavailable or {})
        self._find: dict[str, Callable[[], Device]] = {"cpu": lambda: HOST, **(devices or {})}
        self._devices: dict[str, Device] = {}
        names = [i.name for i in self.implementations]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"implementations registered twice: {', '.join(twice)}")

    def device(self, target: str) -> Device:
        """The device of "cpu" or "gpu", found once."""
        if target not in self._devices:
            find = self._find.get(target)
            found = find() if find else Device(target, "none", present=False)
            self._devices[target] = replace(found, precision=self.precision)
        return self._devices[target]

    def consider(self, op: Op, target: str, dims: Dims) -> tuple[Candidate, ...]:
        """Every implementation of ``op`` for ``target`` ("auto": for any), with its failures or its estimate."""
        return tuple(self._candidate(i, op, dims) for i in self.implementations
                     if op.name in i.ops and target in (i.target, "auto") and i.precision in ("f32", self.precision))

    def to_try(self, candidate: Candidate) -> bool:
        """Whether it may be chosen only after it was tried."""
        return candidate.implementation.tried and self.device(candidate.implementation.target).unproven

    def _candidate(self, i: Implementation, op: Op, dims: Dims) -> Candidate:
        device = self.device(i.target)
        left_out = self._left_out(i.name, op.layer)
        failures = (left_out,) if left_out else tuple(
            f for c in (PLACED[i.target], *i.constraints) if (f := c.failure(op, device)) is not None)
        return Candidate(i, failures, None if failures else i.cost(op, dims, self.machine_of(device)))

    def machine_of(self, device: Device) -> Machine:
        """The constants, with the cache that the device has."""
        if "l2" not in device.limits:
            return self.machine
        return replace(self.machine, gpu=replace(self.machine.gpu, cache=device.limits["l2"]))

    def _left_out(self, name: str, layer: str) -> str:
        if (name, layer) in self.without or (name, "") in self.without:
            return "builds: it must build (it did not for this layer)"
        pieces = name.split(".")
        heads = [".".join(pieces[: k + 1]) for k in range(len(pieces))]
        return "without: the caller must not have left it out" if self.without.intersection(heads) else ""


# --- backends ---------------------------------------------------------------------------------------------


class BuildContext(Protocol):
    """What a backend may read while it builds; `rnngraph.rewrite.PassContext` is one."""

    @property
    def dims(self) -> Dims:
        """Expected sizes of symbols: hints."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What the caller of compile() asked for: "threads", "precision", ..."""

    @property
    def artifacts(self) -> Mapping[str, Any]:
        """What passes computed beside the graph: "schedule", "memory", "selection"."""


class Kernel(Protocol):
    """A built segment. Reentrant: several threads may call `run` at once."""

    def run(self, dims: Dims, inputs: Sequence[Array]) -> list[Array]:
        """Arrays (any strides, native byte order) in the segment's input order to arrays in its output order.

        A kernel never writes to its inputs. The outputs are new, writable arrays that share memory with
        nothing.
        """

    def artifacts(self) -> Mapping[str, str]:
        """Readable results of the build, by kind: "llvm-ir", "asm", ..."""


class Backend(Protocol):
    """Turns segments of a graph into kernels, and says which ops it can do."""

    @property
    def name(self) -> str:
        """The part of its implementations' names before the dot."""

    def implementations(self) -> tuple[Implementation, ...]:
        """What it registers; must not import anything heavy."""

    def build(self, graph: Graph, segment: Segment, context: BuildContext) -> Kernel:
        """Compile one segment; CompileError (naming layer and op) when it cannot."""
