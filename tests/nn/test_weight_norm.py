"""WeightNormLSTMCell: against float64 numpy and PyTorch; its norms are constants of the compiled model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from rnngraph.ir import parse
from rnngraph.nn import RNN, WeightNormLSTMCell
from tests.nn.native_cells import check_cell, close, filled, native
from tests.nn.numpy_cells import Array, Step
from tests.nn.numpy_lstm import Options, lstm
from tests.nn.support import some

MATRICES = ("kernel", "recurrent_kernel", "projection")


def normalized(weights: Mapping[str, Array], o: Options) -> Step:
    """The plain LSTM on weights with normalised columns."""
    w = {k.split("/")[-1]: v.astype(np.float64) for k, v in weights.items()}
    for name in MATRICES:
        if name in w:
            w[name] = w[name] / np.linalg.norm(w[name], axis=0) * w[f"{name}_g"]
    return lstm(w, o)


@pytest.mark.parametrize("units", [1, 7, 33])
@pytest.mark.parametrize(("arguments", "options"), [
    ({}, Options(forget_bias=1.0)),
    ({"peepholes": True, "cell_clip": 0.6, "proj_size": 4, "proj_clip": 0.4, "forget_bias": 0.0},
     Options(cell_clip=(-0.6, 0.6), proj_clip=0.4)),
])
def test_against_numpy(arguments: dict[str, Any], options: Options, units: int) -> None:
    check_cell(WeightNormLSTMCell(units, **arguments), partial(normalized, o=options))


@pytest.mark.parametrize("proj_size", [0, 3])
def test_as_pytorchs_weight_norm(proj_size: int) -> None:
    torch.manual_seed(1)
    module: Any = torch.nn.LSTM(5, 6, batch_first=True, proj_size=proj_size).double()
    names = ["weight_ih_l0", "weight_hh_l0", *(["weight_hr_l0"] if proj_size else [])]
    for name in names:
        torch.nn.utils.parametrizations.weight_norm(module, name, dim=0)
    layer = filled(RNN(WeightNormLSTMCell(6, forget_bias=0.0, proj_size=proj_size), return_sequences=True), 5)
    arrays = dict(layer.weights)
    for name, mine in zip(names, MATRICES, strict=False):
        g, v = (p.detach() for p in (module.parametrizations[name].original0, module.parametrizations[name].original1))
        g.copy_(torch.from_numpy(arrays[f"{mine}_g"].copy()).double()[:, None])
        v.copy_(torch.from_numpy(arrays[mine].T.copy()).double())
    module.bias_ih_l0.detach().copy_(torch.from_numpy(arrays["bias"].copy()).double())
    module.bias_hh_l0.detach().zero_()
    x = some(3, 8, 5)
    with torch.no_grad():
        close(native(layer, 5)(x), module(torch.from_numpy(x).double())[0].numpy())


@pytest.mark.parametrize("arguments", [{}, {"proj_size": 3}, {"peepholes": True, "proj_size": 3, "cell_clip": 1.0}])
def test_the_norms_fold_at_compile_time(arguments: dict[str, Any]) -> None:
    compiled = native(filled(RNN(WeightNormLSTMCell(6, **arguments), name="wn"), 5), 5)
    report = compiled.report
    (record,) = [p for p in report.passes if p.name == "plan-memory"]
    left = {op.name for op in parse(record.after, report.resources).walk()}
    assert not left & {"sqrt", "div", "reduce_sum"}, left
    raised = [str(r) for p in report.passes if p.name == "raise-rnn" for r in p.remarks]
    assert raised[0].startswith("missed" if "peepholes" in arguments else "applied: raise-rnn: wn: the scan is an LSTM")


def test_a_column_of_zeros_stays_zero() -> None:
    layer = filled(RNN(WeightNormLSTMCell(3), return_sequences=True), 5)
    arrays = {n: np.zeros_like(w) if "kernel" in n and not n.endswith("_g") else w for n, w in layer.weights.items()}
    layer.set_weights(arrays)
    x = some(2, 4, 5)
    got = native(layer, 5)(x)
    assert isinstance(got, np.ndarray)
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got[0], got[1])  # nothing but the bias is left
