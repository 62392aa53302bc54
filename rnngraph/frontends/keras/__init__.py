"""Keras models, live, .keras or .h5, as models of `rnngraph.nn`; neither TensorFlow nor Keras is needed for files."""

from __future__ import annotations

from rnngraph.frontends.keras.importer import from_keras, load, load_weights

__all__ = ["from_keras", "load", "load_weights"]
