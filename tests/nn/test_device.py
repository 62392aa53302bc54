"""Cells and layers with a device: written on their ops, kept by the passes, honoured by selection."""

from __future__ import annotations

import re

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import SelectionError, TraceError
from rnngraph.ir import parse
from rnngraph.nn import LSTM, RNN, Dense, DeviceLayer, DeviceWrapper, GRUCell, Input, LSTMCell, Sequential, trace
from tests.nn.support import B, I, T, X, checked, close, some

x = some(B, T, I)


@pytest.mark.parametrize("name", ["cpu", "CPU", "/cpu:0", "/device:CPU:0"])
def test_a_placed_cell_computes_the_same(name: str) -> None:
    made = RNN([DeviceWrapper(LSTMCell(5), name), GRUCell(4)], return_sequences=True, name="r")
    plain = RNN([LSTMCell(5), GRUCell(4)], return_sequences=True, name="r")
    close(np.asarray(rg.compile(made, X)(x)), np.asarray(rg.compile(plain, X)(x)), 1e-6)
    assert {op.layer for op in checked(trace(made, X)).walk() if "@" in op.layer} == {"r/cell0@cpu"}


def test_passes_keep_the_device() -> None:
    model = Sequential([DeviceLayer(LSTM(5, return_sequences=True, name="a"), "cpu", name="one"),
                        DeviceLayer(LSTM(5, return_sequences=True, name="b"), "cpu", name="two"), Dense(2, name="c")])
    compiled = rg.compile(model, X, target="cpu")
    scans = [op.layer for op in compiled.program.graph.block.ops if op.name == "scan"]
    assert scans
    assert all("@cpu" in layer for layer in scans)
    assert not any("@" in op.layer for op in compiled.program.graph.walk() if op.layer.startswith("c"))
    graph = trace(model, X)
    assert [op.layer for op in parse(graph.to_text()).walk()] == [op.layer for op in graph.walk()]


@pytest.mark.parametrize("target", ["cpu", "auto"])
def test_a_device_that_is_not_there(target: str) -> None:
    model = Sequential([LSTM(5, return_sequences=True, name="free"),
                        DeviceLayer(LSTM(4, name="lstm"), "gpu", name="top")])
    with pytest.raises(SelectionError, match=r"layer 'top/lstm@gpu'.*placed: the layer must be free to run on the cpu "
                                             r"\(layer 'top/lstm' is placed on gpu\)"):
        rg.compile(model, X, target=target)


def test_layers_of_two_devices_do_not_merge() -> None:
    model = Sequential([DeviceLayer(LSTM(5, return_sequences=True, name="a"), "cpu", name="one"),
                        LSTM(5, return_sequences=True, name="b")])
    compiled = rg.compile(model, X, target="cpu")
    remarks = [str(r) for p in compiled.report.passes for r in p.remarks]
    assert any(r.startswith("missed: merge-stacked") and "layer b is placed on none, layer one/a@cpu on cpu" in r
               for r in remarks)


def test_two_devices_in_one_loop() -> None:
    made = RNN([DeviceWrapper(LSTMCell(5), "cpu"), DeviceWrapper(GRUCell(4), "gpu")], name="r")
    with pytest.raises(SelectionError, match="layer 'r/cell1' is placed on gpu"):
        rg.compile(made, X)


def test_the_table_has_a_row() -> None:
    compiled = rg.compile(DeviceLayer(LSTM(4), "cpu", name="low"), X)
    explained = compiled.explain()
    assert re.search(r"cupy\.scan +rejected +- +fails placed", explained)
    assert "placed: the layer must be free to run on the gpu (layer 'low/lstm' is placed on cpu)" in explained


def test_dropout_does_not_depend_on_the_device() -> None:
    plain, placed = (rg.compile(m, Input((B, T, I)), training=True, seed=2)(x) for m in (
        RNN(GRUCell(6, dropout=0.5), name="r"), RNN(DeviceWrapper(GRUCell(6, dropout=0.5), "cpu"), name="r")))
    close(np.asarray(plain), np.asarray(placed), 1e-6)


def test_other_names() -> None:
    with pytest.raises(TraceError, match="cell DeviceWrapper: device must be one of cpu, gpu, got 'tpu'"):
        DeviceWrapper(GRUCell(2), "tpu")
    with pytest.raises(TraceError, match="layer 'device_layer': device must be one of cpu, gpu, got 'gpu:1'"):
        DeviceLayer(LSTM(2), "gpu:1")
