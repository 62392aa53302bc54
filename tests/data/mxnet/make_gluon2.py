"""Writes gluon2.json.gz: exports of Gluon in MXNet 2.0 (beta 1), random arrays, and what MXNet computes.

    python -m tests.data.mxnet.make_gluon2
"""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy
from mxnet import np, npx
from mxnet.gluon import nn, rnn

npx.set_np()


def block(forward: Callable[..., Any], **children: Any) -> Any:
    """A HybridBlock of a function and what it uses."""
    made = type("Made", (nn.HybridBlock,), {"forward": forward})()
    for name, child in children.items():
        setattr(made, name, child)
    return made


def words(kind: str, **options: Any) -> Any:
    """An embedding, a fused layer and a dense one."""
    return sequential(nn.Embedding(20, 6), getattr(rnn, kind)(8, layout="NTC", **options), nn.Dense(5, flatten=False))


def cell(kind: str) -> Any:
    """An unrolled cell."""
    return block(lambda self, x: self.cell.unroll(3, x, layout="NTC", merge_outputs=True)[0],
                 cell=getattr(rnn, kind)(4, input_size=5))


def functions(_: Any, x: Any, y: Any) -> Any:
    """Functions of mx.np and mx.npx."""
    both = np.concatenate([x, y], axis=1)
    total = np.stack([x, y], axis=0).sum(axis=0)
    return (npx.softmax(both, axis=-1), np.tanh(total) + np.exp(x).mean(axis=1, keepdims=True),
            np.where(x > 0, (x * 2 + 1 - y / 3) ** 2, y), npx.reshape(x, (-2, -1)), np.transpose(x, (0, 2, 1)),
            np.squeeze(np.expand_dims(x, 1), 1), np.matmul(x, np.transpose(y, (0, 2, 1))), np.maximum(x, 0.1),
            npx.relu(x), npx.sigmoid(y), x.reshape((-1, 5)), np.swapaxes(x, 0, 1), x[:, 1:], np.max(x, axis=1),
            np.clip(x, -1, 1), x - y, 2 - x, 1 / (np.abs(y) + 1), np.sqrt(np.square(x)), np.log(np.abs(x) + 1),
            npx.reshape(x, (-5, -2)), npx.reshape(x, (-2, -4)), np.where(x <= y, x, 0.0 * y))


def sequential(*blocks: Any) -> Any:
    net = nn.HybridSequential()
    net.add(*blocks)
    return net


def packed(array: Any) -> list[Any]:
    array = numpy.ascontiguousarray(array)
    return [array.dtype.str, list(array.shape), base64.b64encode(array.tobytes()).decode()]


def record(net: Any, *inputs: Any) -> dict[str, Any]:
    net.initialize(mx.init.Uniform(0.5))
    net.hybridize()
    net(*inputs)
    result = net(*inputs)
    outputs = list(result) if isinstance(result, list | tuple) else [result]
    with tempfile.TemporaryDirectory() as folder:
        net.export(f"{folder}/m")
        symbol = json.loads(Path(folder, "m-symbol.json").read_text())
        params = base64.b64encode(Path(folder, "m-0000.params").read_bytes()).decode()
    names = ["data"] if len(inputs) == 1 else [f"data{i}" for i in range(len(inputs))]
    return {"symbol": symbol, "params": params, "outputs": [packed(o.asnumpy()) for o in outputs],
            "names": names, "inputs": [packed(x.asnumpy().astype("float32")) for x in inputs]}


def main() -> None:
    ids, x = np.random.randint(0, 20, (3, 9)), np.random.normal(size=(2, 3, 5))
    cases = {
        "lstm": record(words("LSTM", num_layers=2, bidirectional=True), ids), "gru": record(words("GRU"), ids),
        "rnn": record(words("RNN", activation="relu"), ids),
        "dense": record(sequential(nn.Dense(6, activation="tanh"), nn.LayerNorm(), nn.Dropout(0.5), nn.Dense(3)),
                        np.random.normal(size=(2, 4))),
        "conv": record(sequential(nn.Conv1D(4, 3, padding=1), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool1D(2),
                                  nn.GlobalAvgPool1D(), nn.Flatten(), nn.Dense(3)), np.random.normal(size=(2, 4, 11))),
        "lstm_cell": record(cell("LSTMCell"), x), "gru_cell": record(cell("GRUCell"), x),
        "functions": record(block(functions), x, np.random.normal(size=(2, 3, 5)))}
    target = Path(__file__).with_name("gluon2.json.gz")
    target.write_bytes(gzip.compress(json.dumps(cases, separators=(",", ":"), sort_keys=True).encode(), 9, mtime=0))
    print(len(cases), target.stat().st_size)


if __name__ == "__main__":
    main()
