"""Writes symbols.json.gz and checkpoint*: small symbols, random arrays, and what MXNet 1.9.1 computes (numpy < 1.24).

    python -m tests.data.mxnet.make_symbols
"""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np

from tests.data.mxnet.symbol_cases import CASES, SIZES, S, X, build


def shape_of(spec: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(SIZES.get(d, d) for d in spec)


def data_for(name: str, shape: tuple[int, ...], rng: Any) -> Any:
    if name == "index":
        return rng.integers(0, 9, shape).astype(np.float32)
    if name == "lengths":
        return np.array([3, 5, 1, 4][: shape[0]], np.float32)
    if name.endswith("var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.standard_normal(shape) * (1.0 if name in ("data", "other") else 0.4)).astype(np.float32)


def packed(array: Any) -> list[Any]:
    array = np.ascontiguousarray(array)
    return [array.dtype.str, list(array.shape), base64.b64encode(array.tobytes()).decode()]


def record(name: str) -> dict[str, Any]:
    symbol, specs = CASES[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    arguments, _, auxiliary = symbol.infer_shape(**{n: shape_of(s) for n, s in specs.items()})
    args = {n: data_for(n, s, rng) for n, s in zip(symbol.list_arguments(), arguments, strict=True)}
    aux = {n: data_for(n, s, rng) for n, s in zip(symbol.list_auxiliary_states(), auxiliary, strict=True)}
    run = symbol.bind(
        mx.cpu(), {n: mx.nd.array(a) for n, a in args.items()}, aux_states={n: mx.nd.array(a) for n, a in aux.items()}
    )
    outputs = [o.asnumpy() for o in run.forward(is_train=False)]
    labels = [n for n in args if n.endswith("_label")]
    return {
        "symbol": json.loads(symbol.tojson()),
        "shapes": {n: list(s) for n, s in specs.items() if n not in labels},
        "names": symbol.list_outputs(),
        "outputs": [packed(o) for o in outputs],
        "inputs": {n: packed(args[n]) for n in specs if n not in labels},
        "params": {n: packed(a) for n, a in {**args, **aux}.items() if n not in specs and n not in labels},
    }


def checkpoint() -> None:
    """What mx.rnn.save_rnn_checkpoint writes of two layers, fused, and what they compute."""
    folder = Path(__file__).parent
    mx.random.seed(3)
    np.random.seed(3)
    cell = mx.rnn.FusedRNNCell(3, num_layers=2, mode="lstm", bidirectional=True, prefix="lstm_")
    out, _ = cell.unroll(4, X, layout="NTC", merge_outputs=True)
    symbol = S.FullyConnected(out, num_hidden=5, flatten=False, name="pred")
    module = mx.mod.Module(symbol, data_names=["data"], label_names=None)
    module.bind([("data", (2, 4, 6))], for_training=False)
    module.init_params(mx.init.Uniform(0.7))
    args, aux = module.get_params()
    mx.rnn.save_rnn_checkpoint(cell, str(folder / "checkpoint"), 2, symbol, args, aux)
    x = np.random.standard_normal((2, 4, 6)).astype(np.float32)
    module.forward(mx.io.DataBatch([mx.nd.array(x)]), is_train=False)
    np.savez(
        folder / "checkpoint_io.npz",
        data=x,
        y=module.get_outputs()[0].asnumpy(),
        **{n: a.asnumpy() for n, a in args.items()},
    )


def main() -> None:
    checkpoint()
    build()
    text = json.dumps({name: record(name) for name in CASES}, separators=(",", ":"), sort_keys=True)
    target = Path(__file__).with_name("symbols.json.gz")
    target.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(len(CASES), target.stat().st_size)


if __name__ == "__main__":
    main()
