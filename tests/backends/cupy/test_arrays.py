"""What models for a GPU take and give: arrays of numpy, of CuPy (its double) and of other libraries."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.errors import InputError
from tests.backends.cupy.fake_cupy import Namespace, installed
from tests.backends.cupy.on_shim import needs_compiler
from tests.backends.cupy.test_compile import MODELS

pytestmark = needs_compiler
TOLERANCE = 2e-6  # both sides are float32, of numbers about 1


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Namespace:
    return installed(monkeypatch)


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def both(layer: nn.Layer, *inputs: rg.Input, **options: Any) -> tuple[Any, Any]:
    """The model for the CPU and for the GPU."""
    cpu, gpu = (rg.compile(layer, inputs, target=target, **options) for target in ("cpu", "gpu"))
    return cpu, gpu


def close(got: Any, want: Any) -> None:
    """Arrays of either memory, to `TOLERANCE`."""
    found = got if isinstance(got, np.ndarray) else got.get()
    assert found.dtype == want.dtype
    np.testing.assert_allclose(found, want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", MODELS)
def test_models(cupy: Namespace, name: str) -> None:
    cpu, gpu = both(MODELS[name](), rg.Input(("batch", "time", 6)))
    for k in range(3):
        x = normal(3, 9, 6, seed=k)
        on_host, there = gpu(x), gpu(cupy.array(x))
        assert type(on_host) is np.ndarray
        assert type(there) is cupy.ndarray
        close(on_host, cpu(x))
        close(there, cpu(x))


def test_lengths_and_states(cupy: Namespace) -> None:
    cpu, gpu = both(nn.LSTM(8, return_sequences=True, return_state=True), rg.Input(("batch", "time", 4)))
    x, states = normal(4, 6, 4), [normal(4, 8, seed=1), normal(4, 8, seed=2)]
    wanted = cpu(x, lengths=[6, 1, 3, 0], initial_state=states)
    for lengths in ([6, 1, 3, 0], cupy.array(np.array([6, 1, 3, 0]))):  # of CuPy and i64: any integers will do
        for kind in (np.asarray, cupy.array):
            got = gpu(cupy.array(x), lengths=lengths, initial_state=[kind(s) for s in states])
            for a, b in zip(got, wanted, strict=True):
                assert type(a) is cupy.ndarray
                close(a, b)
    assert all(type(a) is np.ndarray for a in gpu(x, lengths=[6, 1, 3, 0], initial_state=states))


DTYPES = {
    "bool": ("graph @g(%x: f32[B, 4], %m: bool[B, 4]) {{ %n = not %m : bool[B, 4]  %z = neg %x : f32[B, 4]  "
             "%y = select %m, %x, %z : f32[B, 4]  return y = %y, n = %n }}"),
    "number": ("graph @g(%x: {0}[B, 4], %m: {0}[B, 4]) {{ %y = add %x, %m : {0}[B, 4]  %z = max %y, %x : {0}[B, 4]  "
               "%b = lt %x, %m : bool[B, 4]  return y = %z, b = %b }}"),
}


@pytest.mark.parametrize("dtype", ["bool", "f32", "f64", "f16", "bf16", "i8", "i32", "i64", "u8"])
def test_dtypes(cupy: Namespace, dtype: str) -> None:
    text = DTYPES["bool" if dtype == "bool" else "number"].format(dtype)
    cpu, gpu = (rg.compile(text, target=target) for target in ("cpu", "gpu"))
    kind = np.float32 if dtype in ("bool", "bf16") else rg.ir.parse(text).inputs[0].type.dtype.numpy
    x = (np.arange(12).reshape(3, 4) * 1.37).astype(kind)
    m = x[::-1] > 4 if dtype == "bool" else x[::-1].copy()
    there, wanted = gpu(cupy.array(x), cupy.array(m)), cpu(x, m)
    for a, b, c in zip(there, wanted, gpu(x, m), strict=True):
        close(a, b)
        close(c, b)


OPS = """take(%t: f32[9, 4], %i: i64[B]) -> %y = take %t, %i {axis = 0} : f32[B, 4]
reduce_sum(%x: f32[B, 5, 4]) -> %y = reduce_sum %x {axes = [0]} : f32[5, 4]
reduce_max(%x: i64[B, 5]) -> %y = reduce_max %x {axes = [1]} : i64[B]
softmax(%x: f32[B, 5, 4]) -> %y = softmax %x {axis = 1} : f32[B, 5, 4]
argmax(%x: f32[B, 5]) -> %y = argmax %x {axis = 1} : i64[B]
cumsum(%x: f32[B, 5]) -> %y = cumsum %x {axis = 1, reverse = true} : f32[B, 5]
pow(%x: i64[B, 5], %z: i64[B, 5]) -> %y = pow %x, %z : i64[B, 5]
top_k(%x: f32[B, 5]) -> %y, %i = top_k %x {k = 2, axis = 1} : f32[B, 2], i64[B, 2]
concat(%x: f64[B, 5], %z: f64[B, 5]) -> %y = concat %x, %z {axis = 1} : f64[B, 10]
reverse(%x: f64[B, 5]) -> %y = reverse %x {axis = 1} : f64[B, 5]
mod(%x: i32[B, 5], %z: i32[B, 5]) -> %y = mod %x, %z : i32[B, 5]
shift_left(%x: u8[B, 5], %z: u8[B, 5]) -> %y = shift_left %x, %z : u8[B, 5]
erf(%x: f64[B, 5]) -> %y = erf %x : f64[B, 5]""".splitlines()


@pytest.mark.parametrize("line", OPS, ids=[line.split("(")[0] for line in OPS])
def test_ops_one_by_one(cupy: Namespace, line: str) -> None:
    """By CuPy, or on the host where its functions do not reach; the report says which."""
    head, body = line.split(" -> ")
    names = [v.strip() for v in body.split(" = ")[0].split(",")]
    graph = rg.ir.parse(f"graph @{head} {{ {body}  return {', '.join(f'{v[1:]} = {v}' for v in names)} }}")
    cpu, gpu = (rg.compile(graph, target=target) for target in ("cpu", "gpu"))
    rng = np.random.default_rng(0)
    inputs = {}
    for name, v in zip(graph.input_names, graph.inputs, strict=True):
        shape = [d if isinstance(d, int) else 3 for d in v.shape]
        drawn = rng.standard_normal(shape) if v.type.dtype.is_float else rng.integers(1, 5, shape)
        inputs[name] = drawn.astype(v.type.dtype.numpy)
    for found in (gpu.run(inputs), gpu.run({n: cupy.array(a) for n, a in inputs.items()})):
        for name, want in cpu.run(inputs).items():
            close(found[name], want)


class Foreign:
    """An array of another library on the GPU, on its own stream; it has DLPack's methods alone."""

    def __init__(self, array: Any, device: int = 2) -> None:
        self.array, self.kind, self.asked = array, device, list[int]()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        assert stream is not None
        self.asked.append(stream)
        return self.array


def test_other_libraries(cupy: Namespace) -> None:
    """An array of another library is read in place, and may be overwritten when the call has returned."""
    cpu, gpu = both(MODELS["tagger"](), rg.Input(("batch", "time", 6)))
    x = normal(3, 9, 6)
    given = Foreign(cupy.array(x))
    found = gpu(given)
    given.array.array[...] = np.nan  # by a stream that knows of no other
    assert given.asked == [1], "CuPy's current stream waits for its owner's: DLPack's number of the default stream"
    assert type(found) is cupy.ndarray
    close(found, cpu(x))


def test_pytorch_on_the_cpu(cupy: Namespace) -> None:
    torch = pytest.importorskip("torch")
    cpu, gpu = both(MODELS["tagger"](), rg.Input(("batch", "time", 6)))
    x = normal(3, 9, 6)
    found = gpu(torch.from_numpy(x).requires_grad_())
    assert type(found) is np.ndarray
    close(found, cpu(x))
    close(cpu(cupy.array(x)), cpu(x))  # a model for the CPU takes what lies on a GPU, and gives arrays of the host


def watched(cupy: Namespace, patch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of arrays that are copied to the host, or from it."""
    found = list[tuple[int, ...]]()

    def watch(name: str) -> None:
        method = getattr(cupy.ndarray, name)

        def watching(array: Any, *args: Any, **options: Any) -> Any:
            found.append(array.shape)
            return method(array, *args, **options)

        patch.setattr(cupy.ndarray, name, watching)

    watch("get")
    watch("set")
    return found


def test_sessions(cupy: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """States stay on the device: no call copies one to the host, or back."""
    cpu, gpu = both(nn.GRU(6, return_sequences=True), rg.Input(("batch", "time", 4)))
    x = normal(2, 7, 4)
    for kind in (np.asarray, cupy.array):
        ours, theirs = gpu.stream(batch=2), cpu.stream(batch=2)
        for t in range(4):
            close(ours.step(kind(x[:, t])), theirs.step(x[:, t]))
        close(ours.feed(kind(x[:, 4:])), theirs.feed(x[:, 4:]))
        with monkeypatch.context() as patch:
            copies = watched(cupy, patch)
            ours.step(kind(x[:, 0]))
        assert (2, 6) not in copies
        theirs.step(x[:, 0])
        assert type(ours.state["gru.h"]) is np.ndarray
        close(ours.state["gru.h"], theirs.state["gru.h"])
        ours.reset([1])
        theirs.reset([1])
        ours.state = {"gru.h": kind(ours.state["gru.h"] + 1)}
        theirs.state = {"gru.h": theirs.state["gru.h"] + 1}
        close(ours.step(kind(x[:, 0])), theirs.step(x[:, 0]))


def test_stateful_layers(cupy: Namespace) -> None:
    cpu, gpu = both(nn.LSTM(5, stateful=True), rg.Input(("batch", "time", 4)))
    for k, kind in enumerate((np.asarray, cupy.array, np.asarray)):
        x = normal(2, 3, 4, seed=k)
        close(gpu(kind(x)), cpu(x))
    for name, state in gpu.states.items():
        assert type(state) is np.ndarray
        close(state, cpu.states[name])
    gpu.reset_states("lstm")
    cpu.reset_states("lstm")
    close(gpu(x), cpu(x))


def test_a_layer_on_the_cpu(cupy: Namespace) -> None:
    """What lies between two segments of the GPU on the CPU gets copies."""
    plain = [nn.GRU(6, return_sequences=True), nn.GRU(5, return_sequences=True), nn.GRU(4)]
    given = rg.Input(("batch", "time", 4))
    cpu = rg.compile(nn.Sequential(plain), given, target="cpu")
    placed = [nn.DeviceLayer(layer, d) for layer, d in zip(plain, ("gpu", "cpu", "gpu"), strict=True)]
    mixed = rg.compile(nn.Sequential(placed), given)
    assert [k.backend for k in mixed.report.kernels].count("cupy") == 2
    x = normal(3, 5, 4)
    for kind in (np.asarray, cupy.array):
        found = mixed(kind(x))
        assert type(found) is type(kind(x))
        close(found, cpu(x))


def test_what_does_not_fit(cupy: Namespace) -> None:
    """Errors name the input, as those of the CPU do."""
    cpu, gpu = both(nn.Sequential([nn.Embedding(30, 8), nn.GRU(6)]), rg.Input(("batch", "time"), "i32"))
    for bad in (np.zeros((2, 3), np.float64), np.zeros((2, 3, 4), np.int32), np.full((2, 3), 30, np.int32),
                np.full((2, 3), 1 << 40, np.int64)):
        said = []
        for call, given in ((cpu, bad), (gpu, bad), (gpu, cupy.array(bad))):
            with pytest.raises(InputError) as e:
                call(given)
            said.append(str(e.value))
        assert said[0] == said[1] == said[2]
        assert "'x'" in said[0]
    far: Any = type("Far", (cupy.ndarray,), {"device": SimpleNamespace(id=1)})
    elsewhere = far.of(np.zeros((2, 3), np.int32))
    with pytest.raises(InputError, match="got something that cannot be used: expected arrays on GPU 0"):
        gpu(elsewhere)


def test_no_rows(cupy: Namespace) -> None:
    _, gpu = both(MODELS["tagger"](), rg.Input(("batch", "time", 6)))
    empty = normal(0, 9, 6)
    assert type(gpu(empty)) is np.ndarray
    assert type(gpu(cupy.array(empty))) is cupy.ndarray
    assert gpu(empty).shape == gpu(cupy.array(empty)).shape == (0, 9, 5)


def test_threads(cupy: Namespace) -> None:
    cpu, gpu = both(MODELS["stack"](), rg.Input(("batch", "time", 6)))

    def calls(seed: int) -> None:
        for k in range(4):
            x = normal(2 + seed % 2, 5, 6, seed=10 * seed + k)
            close(gpu(cupy.array(x) if k % 2 else x), cpu(x))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(calls, range(4)))


def test_without_cupy() -> None:
    """Everything but a call on a GPU works, and that says what brings CuPy."""
    program = """
import sys
sys.modules["cupy"] = sys.modules["cupy_backends"] = None
import numpy as np, rnngraph as rg
model = rg.compile(rg.nn.GRU(4), rg.Input(("batch", "time", 3)))
assert model(np.zeros((2, 5, 3), np.float32)).shape == (2, 4)
from rnngraph.backends.cupy.gpu import CupyDevice
try:
    CupyDevice()
except rg.errors.MissingExtraError as e:
    print(e)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "gpu-cuda13 and gpu-cuda12" in done.stdout
