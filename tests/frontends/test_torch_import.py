"""How PyTorch models are read: names, sizes, weights, warnings and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rnngraph as rg
from rnngraph.errors import ImportModelError, InputError, ShapeError
from tests.frontends.torch_support import check, close, draw, same


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 5)
        self.encoder = nn.ModuleDict({"lstm": nn.LSTM(5, 6, 2, bidirectional=True, batch_first=True)})
        self.head = nn.Linear(12, 3)

    def forward(self, words: torch.Tensor, *, scale: torch.Tensor | None = None) -> dict[str, Any]:
        y, (h, _) = self.encoder["lstm"](self.embed(words))
        scores = self.head(y)
        return {"scores": scores if scale is None else scores * scale, "last": h[-1], "none": None}


def words(batch: int, time: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(time).integers(0, 11, (batch, time)))


def test_names_of_inputs_outputs_layers_and_weights() -> None:
    module = Net().eval()
    layer = rg.from_torch(module, (words(2, 5),))
    assert [str(x) for x in layer.inputs] == ["<Input words: i64[batch,time]>"]
    assert layer.output_names == ("scores", "last")
    assert set(layer.weights) == {n for n, _ in module.named_parameters()}
    compiled = rg.compile(layer)
    assert compiled.output_names == ("scores", "last")
    assert {op.layer for op in rg.trace(layer, layer.inputs).walk() if op.name == "rnn"} == {"encoder.lstm"}
    assert "encoder.lstm" in compiled.explain()
    run = compiled.run({"words": words(3, 4).numpy()})
    close(run["last"], module(words(3, 4))["last"])


def test_weights_can_be_replaced_by_name() -> None:
    """A state_dict into the architecture that was exported."""
    torch.manual_seed(0)
    first, second = Net().eval(), Net().eval()
    layer = rg.from_torch(first, (words(2, 5),))
    layer.set_weights({n: p.detach().numpy() for n, p in second.state_dict().items()})
    same(rg.compile(layer), second, words(2, 3))
    with pytest.raises(ShapeError, match="expected the weights"):
        layer.set_weights({"embed.weight": np.zeros((11, 5), np.float32)})


def test_inputs_by_name() -> None:
    module = Net().eval()
    layer = rg.from_torch(module, (words(2, 5),), example_kwargs={"scale": torch.tensor([2.0])})
    assert [x.name for x in layer.inputs] == ["words", "scale"]
    compiled = rg.compile(layer)
    got = compiled.run({"words": words(2, 5).numpy(), "scale": np.array([3.0], np.float32)})["scores"]
    close(got, module(words(2, 5), scale=torch.tensor([3.0]))["scores"])


@pytest.mark.parametrize("arguments", [
    {"example_inputs": {"words": words(2, 5), "scale": draw(1)}},
    {"example_inputs": {"scale": draw(1).numpy(), "words": words(2, 5).numpy()}},
    {"example_inputs": (words(2, 5),), "example_kwargs": {"scale": draw(1)}},
    {"example_kwargs": {"words": words(2, 5), "scale": draw(1)}},
])
def test_example_inputs_by_name(arguments: dict[str, Any]) -> None:
    module = Net().eval()
    compiled = rg.compile(module, **arguments)
    assert set(compiled.input_names) == {"words", "scale"}
    close(compiled(words=words(3, 4), scale=draw(1, seed=1))[0], module(words(3, 4), scale=draw(1, seed=1))["scores"])


def test_example_inputs_nested_by_name() -> None:
    module = nn.LSTM(4, 6).eval()
    compiled = rg.compile(module, example_inputs={"input": draw(5, 2, 4), "hx": (draw(1, 2, 6), draw(1, 2, 6))})
    assert compiled.input_names == ("input", "hx_0", "hx_1")
    same(compiled, module, draw(7, 3, 4), (draw(1, 3, 6), draw(1, 3, 6, seed=2)))


def test_one_tensor_is_an_example() -> None:
    same(rg.compile(nn.Linear(4, 4).eval(), example_inputs=draw(2, 4)), nn.Linear(4, 4).eval(), draw(3, 4)[:0])


def test_a_module_with_buffers_is_left_alone_where_the_example_does_not_fit() -> None:
    class Counter(nn.Linear):
        count: torch.Tensor

        def __init__(self) -> None:
            super().__init__(4, 4)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count.add_(1.0)
            return super().forward(x)

    module = Counter().eval()
    with pytest.raises(InputError, match="do not fit Counter"):
        rg.compile(module, example_inputs=(draw(2, 5),))
    assert module.count == 0


def test_exported_program() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh()).eval()
    program = torch.export.export(module, (draw(2, 4),), dynamic_shapes=({0: torch.export.Dim("rows")},))
    compiled = rg.compile(program)
    same(compiled, module, draw(5, 4))


@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_exported_program_of_a_recurrent_module() -> None:
    module = nn.GRU(4, 6, 2, batch_first=True).eval()
    program = torch.export.export(module, (draw(2, 5, 4),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    same(rg.compile(program), module, draw(3, 5, 4))


def test_dynamic_shapes_as_asked() -> None:
    layer = rg.from_torch(nn.GRU(4, 6, batch_first=True).eval(), (draw(2, 5, 4),),
                          dynamic_shapes=({1: torch.export.Dim.AUTO},))
    assert str(layer.inputs[0].type) == "f32[2,time,4]"


def test_sizes_that_follow_from_sizes() -> None:
    class Front(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(nn.Conv1d(1, 6, 5, stride=2), nn.ReLU(inplace=True), nn.MaxPool1d(2))
            self.rnn = nn.GRU(6, 5, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.rnn(self.conv(x).transpose(1, 2))[0]
            return torch.cat([y.mean(1), y[:, -1]], 1)

    compiled = check(Front(), [draw(1, 1, 40)], [draw(3, 1, 77)], [draw(2, 1, 31)])
    assert str(compiled.program.plan.specs[0].type) in ("f32[batch,1,s0]", "f32[batch,1,time]")


class Squeezed(torch.nn.Module):
    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x).squeeze(*self.dims)


@pytest.mark.parametrize("dims", [(), (0,), (1,)])
def test_what_a_squeeze_takes_away_is_for_each_call_to_say(dims: tuple[int, ...]) -> None:
    check(Squeezed(*dims), [draw(3, 1, 5)], [draw(1, 4, 5)], [draw(1, 1, 5)], [draw(2, 4, 5)])


def test_a_size_that_must_be_known_makes_a_program_for_each() -> None:
    class Pooled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.adaptive_avg_pool1d(x, 3)

    compiled = check(Pooled(), [draw(2, 4, 7)])
    same(compiled, Pooled(), draw(2, 4, 7, seed=1))


def test_training_is_said_and_left_alone() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    with pytest.warns(UserWarning, match=r"in training mode; it is compiled as in evaluation.*module.eval\(\)"):
        compiled = rg.compile(module, example_inputs=(draw(2, 4),))
    assert module.training
    assert module[1].training
    same(compiled, module.eval(), draw(2, 4))


def test_a_size_that_a_python_loop_fixes() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total = x[:, 0]
            for t in range(1, x.shape[1]):
                total = total * 0.5 + x[:, t]
            return total

    compiled = check(Fixed(), [draw(2, 4, 3)], [draw(5, 4, 3)])
    with pytest.raises(InputError, match=r"expected f32\[batch,4,s0\]"):
        compiled(np.zeros((2, 5, 3), np.float32))


class Unsupported(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.special.i0(x) + torch.fft.fft(x).real
        return y


def test_all_that_is_not_supported_is_named() -> None:
    module = nn.Sequential(Unsupported(), Unsupported()).eval()
    with pytest.raises(ImportModelError, match=r"aten\.\S*i0\S* in '0'") as info:
        rg.compile(module, example_inputs=(draw(2, 4),))
    assert "fft" in str(info.value)
    assert "in '1'" in str(info.value)


def test_what_torch_refuses_is_quoted() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(ImportModelError, match=r"(?s)torch.export refuses Branch: .*values of tensors"):
        rg.compile(Branch().eval(), example_inputs=(draw(2, 4),))


def test_state_kept_in_buffers_is_refused() -> None:
    class Counter(nn.Module):
        count: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count.add_(1.0)
            return x * self.count

    with pytest.raises(ImportModelError, match=r"forward changes count in place.*take the state as an input"):
        rg.compile(Counter().eval(), example_inputs=(draw(2, 4),))


@pytest.mark.parametrize(("arguments", "error", "match"), [
    ({}, ImportModelError, "give example_inputs"),
    ({"example_inputs": (draw(2, 4), draw(2, 4))}, InputError, r"example_inputs do not fit Linear.forward\(input"),
    ({"example_inputs": (draw(2, 5),)}, InputError, "do not fit Linear, which raises, called with them, RuntimeError"),
    ({"example_inputs": {"inputs": draw(2, 4)}}, InputError, r"example_inputs do not fit Linear.forward\(input"),
    ({"example_inputs": {0: draw(2, 4)}}, InputError, r"got the keys \[0\]; a mapping that is itself an argument"),
    ({"example_inputs": {"input": draw(2, 4)}, "example_kwargs": {"input": draw(2, 4)}}, InputError, "both give"),
    ({"example_inputs": (draw(2, 4),), "inputs": rg.Input((2, 4))}, ImportModelError, "leave inputs= out"),
])
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        rg.compile(nn.Linear(4, 4).eval(), **arguments)


def test_wrong_calls() -> None:
    compiled = rg.compile(nn.GRU(4, 6, batch_first=True).eval(), example_inputs=(draw(2, 5, 4),))
    with pytest.raises(InputError, match=r"expected f32\[batch,time,4\]"):
        compiled(np.zeros((2, 5, 3), np.float32))
    with pytest.raises(InputError, match="got dtype float64"):
        compiled(np.zeros((2, 5, 4)))


def test_files_that_could_run_code_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportModelError, match="may run code"):
        rg.compile(tmp_path / "model.pt2")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_scripted_modules_are_refused() -> None:
    scripted = torch.jit.script(nn.Linear(2, 2).eval())
    with pytest.raises(ImportModelError, match="TorchScript"):
        rg.compile(scripted, example_inputs=(draw(2, 2),))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(("kinds", "named"), [({nn.Linear}, r"'head' \(Linear\):"),
                                              ({nn.LSTM}, r"'encoder.lstm' \(LSTM\):"),
                                              ({nn.LSTM, nn.Linear}, r"'encoder.lstm' \(LSTM\), 'head' \(Linear\):")])
def test_quantized_modules_are_named(kinds: set[Any], named: str) -> None:
    quantization: Any = torch.ao.quantization  # has no types
    module = quantization.quantize_dynamic(Net().eval(), kinds, dtype=torch.qint8)
    with pytest.raises(ImportModelError, match=named + r" the weights are packed by PyTorch's quantization"):
        rg.compile(module, example_inputs=(words(2, 5),))


def test_the_module_is_left_as_it_was() -> None:
    module = nn.LSTM(4, 6)
    before = set(vars(module))
    with pytest.warns(UserWarning, match="training mode"):
        rg.from_torch(module, (draw(5, 2, 4),))
    assert set(vars(module)) == before
    assert module.training
