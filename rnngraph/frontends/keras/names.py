"""Names: those of Keras's layers as ours take them, and those that Keras gives to classes in files."""

from __future__ import annotations

import re


def identifier(name: str) -> str | None:
    """A layer's name made of letters, digits, "_", "-" and "."; None where nothing is left of it."""
    found = re.sub(r"[^A-Za-z0-9_.\-]", "_", name)
    found = f"l{found}" if found[:1] in (".", "-") else found
    return found or None


def snake_case(class_name: str) -> str:
    """LSTM -> lstm, GlobalAveragePooling1D -> global_average_pooling1d (keras.src.utils.naming.to_snake_case)."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class Counter:
    """Distinct names: lstm, lstm_1, ..."""

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}

    def name(self, base: str) -> str:
        if base not in self.taken:
            self.taken[base] = 0
            return base
        self.taken[base] += 1
        return f"{base}_{self.taken[base]}"
