"""EmbeddingBag beside live PyTorch, with bags of open sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import rnngraph as rg
from rnngraph.errors import ImportModelError
from tests.frontends.torch_support import check, draw


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 11, shape, generator=torch.Generator().manual_seed(seed))


class Bags(nn.Module):
    """Bags, and a layer behind them; also an embedding by the same weight, whose gradient PyTorch would share."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(11, 5, **options)
        self.out = nn.Linear(5, 3)

    def forward(self, words: torch.Tensor, offsets: torch.Tensor | None = None,
                weights: torch.Tensor | None = None) -> Any:
        return self.out(self.bag(words, offsets, weights))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, -1])
def test_rows_are_bags(mode: str, padding_idx: int | None) -> None:
    all_padding = torch.full((2, 4), 10)
    compiled = check(Bags(mode=mode, padding_idx=padding_idx), [ids(2, 4)], [ids(5, 9, seed=1)], [ids(1, 1)],
                     [all_padding])
    assert [str(s.type) for s in compiled.program.plan.specs] == ["i64[batch,s0]"]


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("last", [False, True])
def test_bags_by_their_offsets(mode: str, last: bool) -> None:
    """Empty ones among them."""
    ends = [9] if last else []
    check(Bags(mode=mode, include_last_offset=last, padding_idx=2), [ids(9), torch.tensor([0, 4, 4, *ends])],
          [ids(9, seed=1), torch.tensor([0, 1, 5, 9, *ends])], [ids(9, seed=2), torch.tensor([0, *ends])],
          [ids(7 if not last else 9, seed=2), torch.tensor([0, 2, *ends])])


def test_weights_of_samples() -> None:
    check(Bags(mode="sum"), [ids(9), torch.tensor([0, 4]), draw(9)], [ids(6), torch.tensor([0, 0, 5]), draw(6)])


def test_renormalised_weights_are_refused() -> None:
    with pytest.raises(ImportModelError, match="max_norm= changes its weight"):
        rg.compile(Bags(max_norm=1.0).eval(), example_inputs=(ids(2, 4),))


def test_an_exported_program_with_bags_is_refused() -> None:
    program = torch.export.export(Bags().eval(), (ids(2, 4),))
    with pytest.raises(ImportModelError, match=r"give rnngraph\.compile the module instead"):
        rg.compile(program)
