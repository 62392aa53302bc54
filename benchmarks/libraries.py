"""The same network in rnngraph and its peers: each a function from x [B, T, I] to y [B, T, D*H]."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.workloads import Weights, Workload
from rnngraph.ir import Array

Run = Callable[[Array], Array]


def rnngraph_run(load: Workload, weights: list[list[Weights]], threads: int) -> Run:
    """Our own, through the public interface."""
    import rnngraph as rg

    layers: list[Any] = []
    for level in weights:
        cells = [_layer(load, w, backwards=d == 1) for d, w in enumerate(level)]
        layers.append(rg.nn.Bidirectional(cells[0], backward_layer=cells[1]) if load.bidirectional else cells[0])
    compiled = rg.compile(rg.nn.Sequential(layers), inputs=rg.Input(("batch", "time", load.inputs)), target="cpu",
                          threads=threads, dims={"batch": load.batch, "time": load.steps})

    def run(x: Array) -> Array:
        y = compiled(x)
        assert isinstance(y, np.ndarray)
        return y

    return run


_TO_KERAS = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}  # PyTorch i,f,g,o = Keras i,f,c,o; r,z,n -> z,r,h


def _layer(load: Workload, w: Weights, *, backwards: bool) -> Any:
    import rnngraph as rg

    def gates(a: Array) -> Array:
        parts = np.split(a, load.gates)
        return np.concatenate([parts[g] for g in _TO_KERAS[load.cell]])

    kernel, recurrent = gates(w.w).T.copy(), gates(w.r).T.copy()
    layer: Any
    if load.cell == "lstm":
        layer = rg.nn.LSTM(load.hidden, return_sequences=True, go_backwards=backwards)
        bias = gates(w.bw + w.br)
    else:
        layer = rg.nn.GRU(load.hidden, return_sequences=True, go_backwards=backwards)
        bias = np.stack([gates(w.bw), gates(w.br)])
    layer.build(("batch", "time", kernel.shape[0]))
    layer.set_weights([kernel, recurrent, bias])
    return layer


def torch_run(load: Workload, weights: list[list[Weights]], threads: int) -> Run:
    """torch.nn.LSTM / GRU in inference mode."""
    import torch

    torch.set_num_threads(threads)
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[load.cell]
    module = kind(load.inputs, load.hidden, load.layers, batch_first=True, bidirectional=load.bidirectional)
    for layer, level in enumerate(weights):
        for direction, w in enumerate(level):
            tail = f"l{layer}{'_reverse' if direction else ''}"
            for name, array in (("weight_ih", w.w), ("weight_hh", w.r), ("bias_ih", w.bw), ("bias_hh", w.br)):
                getattr(module, f"{name}_{tail}").data = torch.from_numpy(array.copy())
    module.eval()

    def run(x: Array) -> Array:
        with torch.inference_mode():
            out: Array = module(torch.from_numpy(x))[0].numpy()
        return out

    return run


_TO_ONNX = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}  # onnx iofc, zrh


def onnxruntime_run(load: Workload, weights: list[list[Weights]], threads: int) -> Run:
    """One ONNX LSTM / GRU node per layer, time-major as ONNX Runtime's CPU kernels want it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(_onnx_model(load, weights), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def _onnx_model(load: Workload, weights: list[list[Weights]]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    def gates(a: Array) -> Array:
        parts = np.split(a, load.gates)
        return np.concatenate([parts[g] for g in _TO_ONNX[load.cell]])

    nodes = [helper.make_node("Transpose", ["x"], ["s0"], perm=[1, 0, 2])]
    constants = []
    for k, level in enumerate(weights):
        arrays = {
            f"W{k}": np.stack([gates(w.w) for w in level]), f"R{k}": np.stack([gates(w.r) for w in level]),
            f"B{k}": np.stack([np.concatenate([gates(w.bw), gates(w.br)]) for w in level]),
        }
        constants += [numpy_helper.from_array(a, n) for n, a in arrays.items()]
        attributes: dict[str, Any] = {"hidden_size": load.hidden,
                                      "direction": "bidirectional" if load.bidirectional else "forward"}
        if load.cell == "gru":
            attributes["linear_before_reset"] = 1
        nodes.append(helper.make_node(load.cell.upper(), [f"s{k}", *arrays], [f"y{k}"], **attributes))
        nodes.append(helper.make_node("Transpose", [f"y{k}"], [f"t{k}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"t{k}", "flat"], [f"s{k + 1}"]))
    nodes.append(helper.make_node("Transpose", [f"s{load.layers}"], ["y"], perm=[1, 0, 2]))
    constants.append(numpy_helper.from_array(np.array([0, 0, -1], np.int64), "flat"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "T", load.inputs])
    graph = helper.make_graph(nodes, "peer", [x],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "T", None])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def openvino_run(load: Workload, weights: list[list[Weights]], threads: int, precision: str = "f32") -> Run:
    """The ONNX model in OpenVINO, for latency, on ``threads`` threads."""
    import openvino as ov

    core = ov.Core()
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
               "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(core.read_model(_onnx_model(load, weights)), "CPU", options)
    request = compiled.create_infer_request()

    def run(x: Array) -> Array:
        request.infer({0: x}, share_inputs=True)
        out: Array = request.get_output_tensor(0).data
        return out

    return run


def jax_run(load: Workload, weights: list[list[Weights]], threads: int) -> Run:
    """lax.scan over the cell's equations, compiled by XLA for the CPU, which uses the threads that it finds."""
    import jax
    import jax.numpy as jnp

    def step(w: Weights) -> Callable[..., Any]:
        def lstm(carry: Any, gates: Any) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(gates + h @ w.r.T, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        def gru(carry: Any, gates: Any) -> Any:
            (h,) = carry
            r, z, n = jnp.split(gates, 3, axis=-1)
            hr, hz, hn = jnp.split(h @ w.r.T + w.br, 3, axis=-1)
            r, z = jax.nn.sigmoid(r + hr), jax.nn.sigmoid(z + hz)
            h = (1 - z) * jnp.tanh(n + r * hn) + z * h
            return (h,), h

        return lstm if load.cell == "lstm" else gru

    def network(x: Any) -> Any:
        y = jnp.swapaxes(x, 0, 1)
        for level in weights:
            outputs = []
            for d, w in enumerate(level):
                bias = w.bw + w.br if load.cell == "lstm" else w.bw
                zero = jnp.zeros((x.shape[0], load.hidden))
                start = (zero, zero) if load.cell == "lstm" else (zero,)
                outputs.append(jax.lax.scan(step(w), start, y @ w.w.T + bias, reverse=d == 1)[1])
            y = jnp.concatenate(outputs, -1)
        return jnp.swapaxes(y, 0, 1)

    compiled: Callable[[Array], Any] = jax.jit(network)
    return lambda x: np.asarray(compiled(x))


LIBRARIES: dict[str, Callable[[Workload, list[list[Weights]], int], Run]] = {
    "rnngraph": rnngraph_run, "torch": torch_run, "onnxruntime": onnxruntime_run, "openvino": openvino_run,
    "jax": jax_run,
}
OPTIONAL = ("openvino", "jax")  # compared with where they are installed


def installed() -> list[str]:
    """The libraries that can be run here, rnngraph first."""
    return [n for n in LIBRARIES if n not in OPTIONAL or find_spec(n) is not None]
