"""Weight initialisers: deterministic, by an explicit seed or by the weight's place in the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from rnngraph.errors import TraceError
from rnngraph.ir import Array

IntShape: TypeAlias = tuple[int, ...]


class Initializer(Protocol):
    """Makes the first value of a weight."""

    def __call__(self, shape: IntShape, rng: np.random.Generator) -> Array: ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Every element is ``value``."""

    value: float = 0.0

    def __call__(self, shape: IntShape, rng: np.random.Generator) -> Array:
        return np.full(shape, self.value, np.float32)


@dataclass(frozen=True, slots=True)
class RandomUniform:
    """Uniform in low..high."""

    low: float = -0.05
    high: float = 0.05
    seed: int | None = None

    def __call__(self, shape: IntShape, rng: np.random.Generator) -> Array:
        return _generator(self.seed, rng).uniform(self.low, self.high, shape).astype(np.float32)


@dataclass(frozen=True, slots=True)
class RandomNormal:
    """Normal with a mean and a standard deviation."""

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    def __call__(self, shape: IntShape, rng: np.random.Generator) -> Array:
        return _generator(self.seed, rng).normal(self.mean, self.stddev, shape).astype(np.float32)


@dataclass(frozen=True, slots=True)
class GlorotUniform:
    """Uniform in +-sqrt(6 / (fan in + fan out)), fans: the last two dims (Glorot and Bengio 2010)."""

    seed: int | None = None

    def __call__(self, shape: IntShape, rng: np.random.Generator) -> Array:
        fans = shape[-2:] if len(shape) > 1 else (*shape, *shape) or (1, 1)
        limit = math.sqrt(6.0 / max(1, sum(fans)))
        return _generator(self.seed, rng).uniform(-limit, limit, shape).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Orthogonal:
    """A matrix with orthonormal rows or columns, whichever are fewer, times ``gain`` (Saxe et al. 2013)."""

    gain: float = 1.0
    seed: int | None = None

    def __call__(self, shape: IntShape, rng: np.random.Generator) -> Array:
        if len(shape) < 2:
            raise TraceError(f"orthogonal: expected a shape of rank >= 2, got {list(shape)}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = _generator(self.seed, rng).normal(size=(max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(tall)
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # the sign makes the distribution uniform
        return (self.gain * (q if rows >= columns else q.T)).reshape(shape).astype(np.float32)


@dataclass(frozen=True, slots=True)
class UnitForgetBias:
    """A bias of ``gates`` equal parts: ``base``, but ``value`` at the forget gate ``index`` (Jozefowicz et al.)."""

    base: Initializer
    index: int = 1
    gates: int = 4
    value: float = 1.0

    def __call__(self, shape: IntShape, rng: np.random.Generator) -> Array:
        bias = np.array(self.base(shape, rng))
        units = shape[-1] // self.gates
        bias[..., self.index * units : (self.index + 1) * units] = self.value
        return bias


INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": GlorotUniform(),
    "ones": Constant(1.0),
    "orthogonal": Orthogonal(),
    "random_normal": RandomNormal(),
    "uniform": RandomUniform(),
    "zeros": Constant(0.0),
}


def to_initializer(which: str | Initializer) -> Initializer:
    """The initialiser of a name; an initialiser stays itself. TraceError for unknown names."""
    if not isinstance(which, str):
        return which
    if which not in INITIALIZERS:
        raise TraceError(f"unknown initializer {which!r}; expected an initializer or one of "
                         f"{', '.join(INITIALIZERS)}")
    return INITIALIZERS[which]


def _generator(seed: int | None, rng: np.random.Generator) -> np.random.Generator:
    return rng if seed is None else np.random.default_rng(seed)
