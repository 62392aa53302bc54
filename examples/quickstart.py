"""Define a model, compile it, watch the passes, run it."""

import numpy as np

import rnngraph as rg
from rnngraph import nn

model = rg.Sequential([
    nn.Bidirectional(nn.LSTM(64, return_sequences=True), name="low"),
    nn.Bidirectional(nn.LSTM(64, return_sequences=True), name="high"),
    nn.LSTM(32, activation="relu", name="odd"),  # no fused kernel has this one
    nn.Dense(10, name="classes"),
])
compiled = rg.compile(model, rg.Input(("batch", "time", 80)))
for record in compiled.report.passes:
    for remark in record.remarks:
        if remark.kind != "note":
            print(remark)

x = np.random.default_rng(0).standard_normal((3, 50, 80), dtype=np.float32)
print(np.shape(compiled(x)), np.shape(compiled(x, lengths=[50, 31, 7])))
