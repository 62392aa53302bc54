"""Attention as layers, with Keras's arguments: Attention, AdditiveAttention, MultiHeadAttention."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Dim
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.layer import Layer
from rnngraph.nn.tensor import Tensor, wrap


def _mask_of(x: Tensor) -> Tensor | None:
    found = active().time_masks.get(x.value())
    return None if found is None else wrap(found)


def _causal(rows: Dim, columns: Dim) -> Tensor:
    """bool[rows, columns]: whether the column is not later than the row."""
    return ops.reshape(ops.arange(rows, "i32"), (rows, 1)) >= ops.reshape(ops.arange(columns, "i32"), (1, columns))


class Attention(Layer):
    """softmax(query key^T) value: [batch, q, d], [batch, v, e] -> [batch, q, e] (Luong et al. 2015; Keras's Attention).

    use_scale   scores are multiplied by a weight ``scale``
    score_mode  "dot" (default), or "concat": the sum of tanh(query + key), times a weight ``concat_score_weight``

    Called with [query, value] or [query, value, key]; key is value where it is left out. The mask that came with value
    keeps its steps out, that of query makes rows 0. ``use_causal_mask``: a query sees no later value.
    ``return_attention_scores``: (output, weights [batch, q, v]).

    Example:
        >>> from rnngraph.nn import Attention, Input, Model, trace
        >>> q, v = Input(("batch", "words", 8), name="q"), Input(("batch", "time", 8), name="v")
        >>> trace(Model([q, v], Attention()([q, v]))).outputs[0].shape
        ('batch', 'words', 8)
    """

    additive = False

    def __init__(self, use_scale: bool = False, score_mode: str = "dot", dropout: float = 0.0,
                 name: str | None = None) -> None:
        super().__init__(name)
        if score_mode not in ("dot", "concat"):
            raise TraceError(f"layer {self.path!r}: score_mode must be 'dot' or 'concat', got {score_mode!r}")
        self.use_scale = use_scale
        self.score_mode = score_mode
        self.dropout = dropout

    def setup(self, shape: tuple[Dim, ...]) -> None:
        self.scale = self.add_weight("scale", (), "ones") if self.use_scale else None
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight("concat_score_weight", (), "ones")

    def pass_mask(self, inputs: Sequence[Tensor], result: Any) -> None:
        """The output's mask is that of query, and its rows that do not count are 0: see `call`."""
        mask = _mask_of(inputs[0])
        if mask is not None:
            out = result[0] if isinstance(result, tuple) else result
            active().time_masks[out.value()] = mask.value()

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """[batch, q, v]"""
        if self.score_mode == "dot":
            found = ops.einsum("bqd,bvd->bqv", query, key)
            return found if self.scale is None else found * self.scale
        joined = _paired(query, key)
        total = ops.sum(ops.tanh(joined if self.scale is None else joined * self.scale), -1)
        return total * self.concat_score_weight

    def call(self, xs: Sequence[Tensor], use_causal_mask: bool = False, return_attention_scores: bool = False) -> Any:
        if not isinstance(xs, list | tuple) or len(xs) not in (2, 3) or any(x.rank != 3 for x in xs):
            raise ShapeError(f"expected [query, value] or [query, value, key], [batch, steps, features] each, got "
                             f"{xs!r}")
        if active().options.training and self.dropout:
            raise TraceError(f"layer {active().path!r}: dropout of attention is not supported in training")
        query, value = xs[0], xs[1]
        scores = self.scores(query, xs[2] if len(xs) == 3 else value)
        keep = _mask_of(value)
        if keep is not None:
            keep = ops.reshape(keep, (keep.shape[0], 1, keep.shape[1]))
        if use_causal_mask:
            causal = _causal(*scores.shape[1:])
            keep = causal if keep is None else ops.logical_and(keep, causal)
        weights = ops.softmax(scores if keep is None else ops.where(keep, scores, scores - 1e9), -1)
        out = weights @ value
        rows = _mask_of(query)
        if rows is not None:
            out = ops.where(ops.reshape(rows, (*rows.shape, 1)), out, 0.0)
        return (out, weights) if return_attention_scores else out


def _paired(query: Tensor, key: Tensor) -> Tensor:
    """query + key for every pair: [batch, q, v, features]"""
    return ops.reshape(query, (*query.shape[:2], 1, query.shape[2])) + ops.reshape(
        key, (key.shape[0], 1, *key.shape[1:]))


class AdditiveAttention(Attention):
    """Attention with scores sum(scale * tanh(query + key)) (Bahdanau et al. 2015; Keras); see `Attention`.

    use_scale  a weight ``scale`` [features] (default); else 1
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, name: str | None = None) -> None:
        super().__init__(use_scale, dropout=dropout, name=name)

    def setup(self, shape: tuple[Dim, ...]) -> None:
        features = shape[-1]
        if not isinstance(features, int):
            raise ShapeError(f"expected an integer number of features, got {list(shape)}")
        self.scale = self.add_weight("scale", (features,)) if self.use_scale else None

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        found = ops.tanh(_paired(query, key))
        return ops.sum(found if self.scale is None else found * self.scale, -1)


class MultiHeadAttention(Layer):
    """Attention of several heads, projected (Vaswani et al. 2017; Keras's MultiHeadAttention over one axis of time).

    num_heads, key_dim  how many heads, and the size of query and key in each
    value_dim           the size of value in each (None: key_dim)
    output_dim          the features of the output (None: those of query); Keras's output_shape, one number

    Called as layer(query, value, key=None, attention_mask=None): [batch, q, d], [batch, v, e] -> [batch, q, output].
    The masks of query, value and key, ``attention_mask`` bool[batch, q, v] and ``use_causal_mask`` all have to let a
    pair through. Weights as in Keras: query_kernel [d, heads, key_dim], query_bias [heads, key_dim], key_*, value_*,
    output_kernel [heads, value_dim, output], output_bias.

    Example:
        >>> from rnngraph.nn import Input, Model, MultiHeadAttention, trace
        >>> x = Input(("batch", "time", 8))
        >>> trace(Model(x, MultiHeadAttention(2, 4)(x, x))).outputs[0].shape
        ('batch', 'time', 8)
    """

    supports_masking = True

    def __init__(self, num_heads: int, key_dim: int, value_dim: int | None = None, dropout: float = 0.0,
                 use_bias: bool = True, output_dim: int | None = None,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer = "zeros", name: str | None = None) -> None:
        super().__init__(name)
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.value_dim = key_dim if value_dim is None else value_dim
        self.dropout = dropout
        self.use_bias = use_bias
        self.output_dim = output_dim
        self.initializers = (kernel_initializer, bias_initializer)

    def _build(self, features: Sequence[int]) -> None:
        """The weights, for the features of query, key and value."""
        if "query_kernel" in self._weights:
            return
        sizes = {"query": self.key_dim, "key": self.key_dim, "value": self.value_dim}
        out = features[0] if self.output_dim is None else self.output_dim
        kernel, bias = self.initializers
        for (name, size), given in zip(sizes.items(), features, strict=True):
            self.add_weight(f"{name}_kernel", (given, self.num_heads, size), kernel)
            if self.use_bias:
                self.add_weight(f"{name}_bias", (self.num_heads, size), bias)
        self.add_weight("output_kernel", (self.num_heads, self.value_dim, out), kernel)
        if self.use_bias:
            self.add_weight("output_bias", (out,), bias)

    def _projected(self, name: str, x: Tensor) -> Tensor:
        y = ops.einsum("btd,dhk->bthk", x, self._weights[f"{name}_kernel"])
        return y + self._weights[f"{name}_bias"] if self.use_bias else y

    def call(self, query: Tensor, value: Tensor, key: Tensor | None = None, attention_mask: Tensor | None = None,
             use_causal_mask: bool = False, return_attention_scores: bool = False) -> Any:
        key = value if key is None else key
        if any(x.rank != 3 for x in (query, value, key)):
            raise ShapeError(f"expected query, value and key [batch, steps, features], got {query.type}, {value.type}, "
                             f"{key.type}")
        if active().options.training and self.dropout:
            raise TraceError(f"layer {active().path!r}: dropout of attention is not supported in training")
        self._build([self.expect_features(x) for x in (query, key, value)])
        q, k, v = (self._projected(n, x) for n, x in (("query", query), ("key", key), ("value", value)))
        scores = ops.einsum("bqhk,bvhk->bhqv", q * (1.0 / sqrt(self.key_dim)), k)
        keep = self._keep(query, value, key, attention_mask, use_causal_mask)
        if keep is None:
            weights = ops.softmax(scores, -1)
        else:
            weights = ops.softmax(ops.where(keep, scores, -1e9), -1)
            if self.dropout or return_attention_scores:  # Keras's other path: a row that sees nothing is 0, not a mean
                weights = ops.where(keep, weights, 0.0)
        out = ops.einsum("bqhk,hko->bqo", ops.einsum("bhqv,bvhk->bqhk", weights, v), self._weights["output_kernel"])
        out = out + self._weights["output_bias"] if self.use_bias else out
        return (out, weights) if return_attention_scores else out

    def _keep(self, query: Tensor, value: Tensor, key: Tensor, given: Tensor | None, causal: bool) -> Tensor | None:
        """The pairs that count, [batch, 1, q, v] or less; None: all."""
        found: list[Tensor] = []
        masks = {"query": _mask_of(query), "value": _mask_of(value), "key": None if key is value else _mask_of(key)}
        for name, mask in masks.items():
            if mask is not None:
                b, t = mask.shape
                found.append(ops.reshape(mask, (b, 1, t, 1) if name == "query" else (b, 1, 1, t)))
        if causal:
            found.append(_causal(query.shape[1], value.shape[1]))
        if given is not None:
            flags = given if given.dtype.name == "bool" else given > 0.5
            found.append(ops.reshape(flags, (flags.shape[0], 1, *flags.shape[1:])) if flags.rank == 3 else flags)
        keep: Tensor | None = None
        for mask in found:
            keep = mask if keep is None else ops.logical_and(keep, mask)
        return keep


__all__ = ["AdditiveAttention", "Attention", "MultiHeadAttention"]
