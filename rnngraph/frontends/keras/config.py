"""The configuration of one Keras layer, read with checks: every option is either used, known not to matter, or refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rnngraph.errors import ImportModelError

MISSING: Final = object()
MAX_NESTING = 40
# What says nothing about the function that a trained layer computes.
INERT = frozenset({
    "name", "trainable", "batch_input_shape", "batch_shape", "input_shape", "input_dtype", "input_length", "seed",
    "sparse", "ragged", "implementation", "unit_forget_bias", "init", "activity_regularizer", "noise_shape",
    "autocast", "use_cudnn", "renorm_momentum", "momentum", "synchronized",
    "consume_less", "W_regularizer", "U_regularizer", "b_regularizer", "W_constraint", "b_constraint",
    "inner_init", "forget_bias_init", "lora_alpha", "weights", "batch_size",
})
INERT_ENDS = ("_initializer", "_regularizer", "_constraint")


class Config:
    """What a layer's entry in a model's configuration says. Every error names the layer and its class."""

    def __init__(self, entry: Any, keras: int, depth: int = 0, stored: Sequence[tuple[int, ...]] = ()) -> None:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("class_name"), str):
            raise ImportModelError(f"expected a layer with its class_name and config, got {str(entry)[:80]}")
        if depth > MAX_NESTING:
            raise ImportModelError("layers within layers without end")
        self.entry = entry
        self.keras = keras
        self.depth = depth
        self.stored = stored  # the shapes of its weights in an HDF5 file of Keras 2
        self.class_name: str = entry["class_name"].rsplit(">", 1)[-1]
        found = entry.get("config", {})
        self.values: Mapping[str, Any] = found if isinstance(found, Mapping) else {"layers": found}
        if not all(isinstance(key, str) for key in self.values):
            raise ImportModelError(f"{self.class_name}: its config has keys that are no text")
        name = self.values.get("name", entry.get("name"))
        self.name = name if isinstance(name, str) else ""
        self.used: set[str] = set()

    @property
    def where(self) -> str:
        return f"layer {self.name!r} ({self.class_name})"

    @property
    def module(self) -> str:
        """The module of the class, in Keras 3."""
        found = self.entry.get("module")
        return found if isinstance(found, str) else ""

    def fail(self, message: str) -> ImportModelError:
        return ImportModelError(f"{self.where}: {message}")

    def inner(self, entry: Any) -> Config:
        """A layer within this one."""
        return Config(entry, self.keras, self.depth + 1, self.stored)

    # --- values -----------------------------------------------------------------------------------------------------

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def get(self, key: str, default: Any = MISSING) -> Any:
        """A value as it is; None counts as absent."""
        self.used.add(key)
        value = self.values.get(key)
        if value is not None:
            return value
        if default is MISSING:
            raise self.fail(f"its config has no {key!r}")
        return default

    def whole(self, key: str, default: Any = MISSING, least: int = 1) -> int:
        value = self.get(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
            raise self.fail(f"{key} must be a whole number >= {least}, got {str(value)[:40]}")
        return value

    def axis(self, key: str, default: Any = MISSING) -> int:
        """A whole number of either sign; a list of one counts."""
        value = self.get(key, default)
        if isinstance(value, Sequence) and len(value) == 1:
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int) or not -32 <= value < 32:
            raise self.fail(f"{key} must be one axis, got {str(value)[:40]}")
        return value

    def number(self, key: str, default: Any = MISSING) -> float:
        value = self.get(key, default)
        if isinstance(value, Mapping):  # a numpy scalar, as Keras 2 wrote it
            value = value.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.fail(f"{key} must be a finite number, got {str(value)[:40]}")
        return float(value)

    def flag(self, key: str, default: Any = MISSING) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise self.fail(f"{key} must be true or false, got {str(value)[:40]}")
        return bool(value)

    def choice(self, key: str, choices: Sequence[str], default: Any = MISSING) -> str:
        value = self.get(key, default)
        if value not in choices:
            raise self.fail(f"{key} must be one of {', '.join(choices)}, got {str(value)[:40]!r}")
        return str(value)

    def sizes(self, key: str, count: int, default: Any = MISSING, least: int = 1) -> tuple[int, ...]:
        """One whole number per spatial dim, from a number or a list of them."""
        value = self.get(key, default)
        found = (value,) * count if isinstance(value, int) else tuple(value) if isinstance(value, list | tuple) else ()
        if len(found) != count or not all(isinstance(v, int) and not isinstance(v, bool) and least <= v < 2**31
                                          for v in found):
            raise self.fail(f"{key} must be {count} whole number(s) >= {least}, got {str(value)[:60]}")
        return found

    def pairs(self, key: str, count: int, default: Any = MISSING) -> tuple[tuple[int, int], ...]:
        """A pair of whole numbers (in front, behind) per spatial dim, from one number, ``count`` numbers or pairs."""
        value = self.get(key, default)
        items = [value] * count if isinstance(value, int) else list(value) if isinstance(value, list | tuple) else []
        if count == 1 and len(items) == 2 and all(isinstance(v, int) for v in items):
            items = [items]
        found = [(v, v) if isinstance(v, int) else tuple(v) if isinstance(v, list | tuple) else () for v in items]
        good = len(found) == count and all(len(p) == 2 and all(isinstance(v, int) and 0 <= v < 2**31 for v in p)
                                           for p in found)
        if not good:
            raise self.fail(f"{key} must be {count} pair(s) of whole numbers, got {str(value)[:60]}")
        return tuple((p[0], p[1]) for p in found)

    def channels_last(self) -> bool:
        """Whether the layer works on channels last; what it says nothing of is."""
        return self.choice("data_format", ("channels_last", "channels_first"), "channels_last") == "channels_last"

    def need_channels_last(self) -> None:
        if not self.channels_last():
            raise self.fail("data_format channels_first is not supported; convert the model to channels_last")

    # --- the rest -----------------------------------------------------------------------------------------------------

    def done(self, *known: str) -> None:
        """ImportModelError for an option that nobody looked at and that could matter."""
        self._check_dtype(self.values.get("dtype"))
        for key, value in self.values.items():
            if key in self.used or key in known or key in INERT or key.endswith(INERT_ENDS) or key == "dtype":
                continue
            if value not in (None, False, [], {}):
                raise self.fail(f"its option {key}={str(value)[:60]!r} is not supported")

    def _check_dtype(self, dtype: Any) -> None:
        """Computing in another float than f32 is no matter of the function; a quantized layer has other weights."""
        if isinstance(dtype, Mapping) and dtype.get("class_name") not in ("DTypePolicy", "Policy", "FloatDTypePolicy"):
            raise self.fail(f"its dtype policy {dtype.get('class_name')!r} (such as a quantized layer's) is not "
                            "supported; save the model before it is quantized")
        name = policy_name(dtype)
        if isinstance(name, str) and name.startswith(("int4", "int8", "float8")):
            raise self.fail(f"its dtype {name!r} is not supported; save the model before it is quantized")


def policy_name(dtype: Any) -> Any:
    """The name of a dtype or of a policy."""
    inner = dtype.get("config") if isinstance(dtype, Mapping) else None
    return inner.get("name") if isinstance(inner, Mapping) else dtype


def layers_of(config: Config) -> list[Any]:
    """The entries of a model's layers."""
    found = config.get("layers")
    if not isinstance(found, list):
        raise config.fail("its layers are no list")
    return found
