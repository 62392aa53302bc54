"""Errors that rnngraph raises: one class per phase, each naming the layer or op, expected, got, and what to do."""

from __future__ import annotations


class RnngraphError(Exception):
    """Base of every error that rnngraph raises on purpose."""


class IRError(RnngraphError):
    """The IR is not well formed: a type rule, a use list or the dominance order is broken."""


class ShapeError(IRError):
    """An operand's dtype, rank or dimension does not fit the op or layer."""

    def at(self, where: str) -> ShapeError:
        """The same error, saying where."""
        return ShapeError(f"{where}: {self}")


class SizesDiffer(ShapeError):
    """Two sizes must be equal, and their forms do not show it; the names may stand for equal ones all the same."""

    def __init__(self, message: str, a: int | str, b: int | str) -> None:
        super().__init__(message)
        self.a = a
        self.b = b

    def at(self, where: str) -> SizesDiffer:
        return SizesDiffer(f"{where}: {self}", self.a, self.b)


class ParseError(RnngraphError):
    """IR text, or a pipeline, could not be read; the message starts with line:column."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"{line}:{column}: {message}")
        self.line = line
        self.column = column


class TraceError(RnngraphError):
    """A model definition could not be traced to the IR."""


class PassError(RnngraphError):
    """A pass failed, or left the graph in a state that it promised not to."""


class SelectionError(RnngraphError):
    """No registered implementation can run an op on the requested target."""


class CompileError(RnngraphError):
    """A backend could not turn its part of the graph into something runnable."""


class ImplementationError(CompileError):
    """One implementation did not build for a layer; another may."""

    def __init__(self, message: str, impl: str, layer: str) -> None:
        super().__init__(message)
        self.impl = impl
        self.layer = layer


class DeviceError(RnngraphError, RuntimeError):
    """A GPU cannot be used, has run out of memory, or has failed in a call."""


class DeviceMemoryError(DeviceError):
    """A GPU's memory does not suffice."""


class InputError(RnngraphError, ValueError):
    """An array given to a compiled model does not fit: shape, dtype, lengths or name."""


class StreamError(RnngraphError):
    """A model cannot run step by step, or a stream is used in a way that it cannot be."""


class ImportModelError(RnngraphError):
    """A foreign model or weight file could not be read."""


class ExportError(RnngraphError):
    """A model cannot be written in the form that was asked for; the message names the ops."""


class ConversionError(RnngraphError):
    """Weights do not fit together, or would lose something in the layout of another system; the message names it."""


class MissingExtraError(RnngraphError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""
