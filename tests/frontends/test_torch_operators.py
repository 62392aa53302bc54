"""ATen operators, a family a module, beside live PyTorch: compiled from one example, called with other sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.frontends.torch_support import check, check_graph, draw

Family = dict[str, Callable[[torch.Tensor], Any]]


class Functions(nn.Module):
    """The results of several functions of one input."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {name: function(x) for name, function in self.family.items()}


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.int64)


def written(x: torch.Tensor) -> torch.Tensor:
    """Parts of a tensor written in place."""
    y = x.clone()
    y[:, 0] = 0.0
    y[:, 1:].mul_(3.0)
    y[..., 2:4] += 1.0
    return y


def without_gradients(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = x * 2.0
    return y + 1.0


FAMILIES: dict[str, Family] = {
    "arithmetic": {
        "add": lambda x: x + x[:, :1] * 2 - 1, "rsub": lambda x: 1 - x, "div": lambda x: x / (1 + x * x),
        "floor": lambda x: torch.div(x, 0.3, rounding_mode="floor"), "pow": lambda x: x**2 + x.abs() ** 0.5 + 2.0**x,
        "pow2": lambda x: (x.abs() + 1) ** 1.7, "remainder": lambda x: torch.remainder(x, 0.7),
        "fmod": lambda x: torch.fmod(x, 0.7), "clamp": lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0.1),
        "lerp": lambda x: torch.lerp(x, x * 2, 0.3),
        "max": lambda x: torch.maximum(x, x.flip(-1)) - torch.minimum(x, -x),
        "size": lambda x: x * x.size(1), "addcmul": lambda x: torch.addcmul(x, x, x, value=0.3),
        "inplace": lambda x: (x * 2).add_(1).relu_()},
    "comparison": {
        "and": lambda x: ((x > 0) & (x < 1)) | (x == 0) ^ (x >= 2), "not": lambda x: ~(x > 0),
        "where": lambda x: torch.where(x > 0, x, 0.5), "fill": lambda x: x.masked_fill(x > 0, -1e9),
        "any": lambda x: ((x > 0).any(), (x > 0).all(1), (x > 5).any(-1), (x > 0).sum(1))},
    "functions": {
        "exp": lambda x: x.exp() + x.abs().log() + torch.erf(x), "sin": lambda x: x.sin() + x.cos() + x.tan(),
        "round": lambda x: x.floor() + x.ceil() * 3 + (x * 2).round() * 5 + x.trunc() * 7 + x.sign() * 11,
        "log1p": lambda x: torch.log1p(x.abs()) + torch.expm1(x), "logit": lambda x: torch.logit(torch.sigmoid(x)),
        "sqrt": lambda x: x.abs().sqrt() + (x * x + 1).rsqrt() + (x * x + 1).reciprocal(),
        "nan": lambda x: x.sqrt().nan_to_num(0.5), "square": lambda x: x.square() - x.neg().abs()},
    "activations": {
        "gelu": lambda x: F.gelu(x) + F.gelu(x, approximate="tanh"),
        "elu": lambda x: F.elu(x) + F.selu(x) + F.celu(x, 0.7),
        "silu": lambda x: F.silu(x) + F.mish(x) + F.hardswish(x), "softplus": lambda x: F.softplus(x * 20, 2.0),
        "leaky": lambda x: F.leaky_relu(x, 0.1) + F.rrelu(x), "hard": lambda x: F.hardtanh(x) + F.hardsigmoid(x),
        "soft": lambda x: F.softsign(x) + F.logsigmoid(x) + F.relu6(x) + F.tanhshrink(x),
        "shrink": lambda x: F.hardshrink(x) + F.softshrink(x) + F.threshold(x, 0.1, 20.0),
        "softmax": lambda x: F.softmax(x, 1) + F.log_softmax(x, -1) + F.softmin(x, -1), "dropout": lambda x: F.dropout(
            x, 0.5, False)},
    "reductions": {
        "sum": lambda x: (x.sum(), x.sum(1), x.sum((0, 2), keepdim=True), x.mean(-1), x.mean(), x.mean((1, 2))),
        "extremes": lambda x: (x.max(), x.min(), x.max(1), x.min(-1, keepdim=True), x.amax((1, 2)), x.amin(0)),
        "places": lambda x: (x.argmax(-1), x.argmin(1), x.argmax(), x.argmax(1, keepdim=True)),
        "variance": lambda x: (x.var(), x.std(1), x.var(-1, unbiased=False), torch.var_mean(x, 1)),
        "norm": lambda x: (x.norm(dim=-1), x.norm(1, dim=1), torch.linalg.vector_norm(x, 3, dim=2), x.norm()),
        "normalize": lambda x: F.normalize(x, dim=-1), "logsumexp": lambda x: x.logsumexp(1),
        "cosine": lambda x: F.cosine_similarity(x, x.flip(1), -1), "prod": lambda x: x.prod(-1),
        "cumsum": lambda x: x.cumsum(1)},
    "order": {
        "topk": lambda x: (x.topk(3, -1), x.topk(2, 1, largest=False)), "sort": lambda x: x.sort(-1),
        "descending": lambda x: x.sort(1, descending=True), "argsort": lambda x: x.argsort(-1)},
    "views": {
        "view": lambda x: (x.view(x.size(0), -1), x.reshape(-1, x.size(2)), x.flatten(), x.flatten(1)),
        "heads": lambda x: x.view(x.size(0), x.size(1), 2, 4).transpose(1, 2), "permute": lambda x: x.permute(2, 0, 1),
        "turn": lambda x: (x.mT, x.movedim(1, 0), x.transpose(0, 1).contiguous()),
        "squeeze": lambda x: (x.unsqueeze(1).squeeze(1), x[:, :, :1].squeeze(-1)),
        "expand": lambda x: x[:, :1].expand(-1, x.size(1), -1) + x[:1].expand_as(x),
        "repeat": lambda x: (x.repeat(2, 1, 3), x.repeat_interleave(2, 1)), "flip": lambda x: x.flip(1),
        "roll": lambda x: (x.roll(1, 1), x.roll((1, -2), (1, 2)))},
    "joins": {
        "cat": lambda x: torch.cat([x, x[:, 1:], x * 2], 1), "stack": lambda x: torch.stack([x, -x], 2),
        "slice": lambda x: (x[:, 1:], x[:, :-1], x[:, ::2], x[:, -1], x[:, 0], x[..., 2:5], x[:, -3:], x[:, 1:-1:2]),
        "narrow": lambda x: x.narrow(1, 1, 2), "unfold": lambda x: x.unfold(1, 3, 1), "written": written,
        "pad": lambda x: (F.pad(x, (1, 2)), F.pad(x, (0, 0, 1, 2), value=3.0), F.pad(x, (0, 0, -1, 0))),
        "edges": lambda x: (F.pad(x, (1, 1), "reflect"), F.pad(x, (2, 1), "replicate"), F.pad(x, (2, 1), "circular"))},
    "parts": {
        "split": lambda x: (torch.split(x @ draw(8, 6), [2, 4], -1), torch.split(x @ draw(8, 7), 3, -1)),
        "chunk": lambda x: (x @ draw(8, 6)).chunk(3, -1), "unbind": lambda x: (x @ draw(8, 6)).unbind(-1)[3],
        "glu": lambda x: F.glu(x @ draw(8, 6), -1), "unflatten": lambda x: torch.unflatten(x @ draw(8, 6), -1, (2, -1)),
        "tensor_split": lambda x: (x @ draw(8, 7)).tensor_split(3, -1)},
    "products": {
        "matmul": lambda x: (x @ x.transpose(1, 2), torch.bmm(x, x.transpose(1, 2)), x @ draw(8, 3), x @ draw(8)),
        "broadcast": lambda x: (x.unsqueeze(1) @ draw(4, 8, 3), draw(5, 1, 4, 4) @ draw(5, 3, 4, 2)),
        "einsum": lambda x: (torch.einsum("btf,bsf->bts", x, x), torch.einsum("btf,fg->btg", x, draw(8, 3))),
        "addmm": lambda x: torch.addmm(draw(3), x[:, 0], draw(8, 3), beta=0.5, alpha=2.0),
        "outer": lambda x: torch.outer(x[0, 0], x[0, 1]),
        "attention": lambda x: [F.scaled_dot_product_attention(q, q, q, is_causal=c)
                                for q in [x @ draw(8, 6)] for c in (False, True)],
        "masked": lambda x: F.scaled_dot_product_attention(x @ draw(8, 6), x @ draw(8, 6), x,
                                                           attn_mask=x[:, :, :1] < 0.7)},
    "creation": {
        "arange": lambda x: x + torch.arange(x.size(1))[None, :, None],
        "linspace": lambda x: x + torch.linspace(0, 1, 8),
        "full": lambda x: torch.full((x.size(0), 3), 2.5) + torch.zeros(3) + torch.ones_like(x[:, 0, :3]),
        "triangle": lambda x: torch.tril(torch.ones(x.size(1), x.size(1))) + torch.triu(torch.ones(3, 3)).sum(),
        "mask": lambda x: x * (torch.arange(x.size(1))[None] < torch.full((x.size(0), 1), 3))[..., None],
        "casts": lambda x: ((x > 0).float(), x.long(), x.to(torch.int32), (x > 0).long() + 1),
        "integers": lambda x: (x.int() // 2, x.int() % 3, (x * 10).long() / 3, (x * 10).long() & 3),
        "region": without_gradients},
    "indexing": {
        "index": lambda x: (x[:, torch.tensor([0, 2, 1])], x[:, :, torch.tensor([1, 1])], x[torch.tensor([0, -1])]),
        "both": lambda x: (x[torch.tensor([0, 1]), torch.tensor([1, 0])],
                           x[:, torch.tensor([0]), torch.tensor([[1], [2]])]),
        "select": lambda x: x.index_select(-1, torch.tensor([3, 0])), "one_hot": lambda x: F.one_hot(x.argmax(-1), 8),
        "gather": lambda x: (x.gather(1, ones(1, 1, 8).expand(x.size(0), -1, -1)), x.gather(2, x.argsort(-1))),
        "scatter": lambda x: (torch.zeros_like(x).scatter(1, ones(1, 1, 8).expand(x.size(0), -1, -1), 1.0),
                              x.scatter_add(2, ones(1, 1, 2).expand(x.size(0), x.size(1), -1), x[..., :2] * 1))},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name: str) -> None:
    graph = check_graph(Functions(FAMILIES[name]), [draw(2, 5, 8)], [draw(3, 7, 8, seed=4)])
    assert graph.inputs[0].shape[:2] == ("batch", "s0")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_family_compiled(name: str) -> None:
    compiled = check(Functions(FAMILIES[name]).eval(), [draw(2, 5, 8)], [draw(3, 7, 8, seed=4)])
    assert str(compiled.program.plan.specs[0].type).startswith("f32[batch,s0,")


class Channels(nn.Module):
    """A module on [batch, channels, time]."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleList(modules)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [m(x) for m in self.inner]


def norms() -> list[nn.Module]:
    made: list[nn.Module] = [
        nn.BatchNorm1d(8), nn.BatchNorm1d(8, affine=False), nn.BatchNorm1d(8, track_running_stats=False),
        nn.GroupNorm(2, 8), nn.InstanceNorm1d(8, affine=True), nn.InstanceNorm1d(8, track_running_stats=True),
        nn.PReLU(8)]
    for module in made:
        statistics = dict(module.named_buffers())
        if "running_mean" in statistics:
            statistics["running_mean"].normal_()
            statistics["running_var"].uniform_(0.5, 2.0)
    return made


MODULES: dict[str, Callable[[], list[nn.Module]]] = {
    "norms": norms,
    "convolutions": lambda: [
        nn.Conv1d(8, 6, 3, stride=2, padding=1), nn.Conv1d(8, 6, 4, padding="same"), nn.Conv1d(8, 8, 3, groups=4),
        nn.Conv1d(8, 6, 2, dilation=3, bias=False), nn.Conv1d(8, 6, 3, padding=1, padding_mode="circular")],
    "transposed": lambda: [nn.ConvTranspose1d(8, 6, 4, stride=2, padding=1, output_padding=1),
                           nn.ConvTranspose1d(8, 6, 3, stride=2, groups=2), nn.Upsample(scale_factor=2)],
    "pools": lambda: [nn.MaxPool1d(2), nn.MaxPool1d(3, 1, 1), nn.AvgPool1d(3, 2, 1), nn.AdaptiveAvgPool1d(1),
                      nn.AdaptiveMaxPool1d(1), nn.AvgPool1d(2, ceil_mode=True), nn.ZeroPad1d(2), nn.ReflectionPad1d(1)],
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_over_channels(name: str) -> None:
    torch.manual_seed(0)
    check_graph(Channels(*MODULES[name]()), [draw(2, 8, 9)], [draw(3, 8, 12, seed=1)])


def test_modules_over_images() -> None:
    torch.manual_seed(0)
    modules = Channels(nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1),
                       nn.MaxPool2d((2, 3), stride=(1, 2), padding=1),
                       nn.ConvTranspose2d(2, 3, 3, stride=2), nn.AdaptiveAvgPool2d((1, 1)), nn.BatchNorm2d(2))
    check_graph(modules, [draw(2, 2, 7, 9)], [draw(1, 2, 8, 12, seed=1)])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_modules_over_features() -> None:
    torch.manual_seed(0)
    inner = [nn.LayerNorm(8), nn.RMSNorm(8), nn.PReLU(), nn.utils.weight_norm(nn.Linear(8, 4)),
             nn.utils.parametrizations.weight_norm(nn.Linear(8, 4)),
             nn.utils.parametrizations.spectral_norm(nn.Linear(8, 4)),
             nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)]
    check_graph(Channels(*inner), [draw(2, 5, 8)], [draw(3, 7, 8, seed=1)])


def test_embedding_and_attention() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 8, padding_idx=0)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = self.embed(words)
            y, weights = self.attend(x, x, x, key_padding_mask=words == 0)
            return y, weights

    check(Attending(), [torch.tensor([[1, 2, 3, 0], [4, 0, 0, 0]])], [torch.tensor([[5, 6, 0], [8, 1, 7], [2, 0, 0]])])
