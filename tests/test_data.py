"""Padding against live Keras, MXNet's sentence encoding and buckets against its documented loops, batches by length."""

from __future__ import annotations

import bisect
import os
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnngraph.data import BucketSentenceIter, batches_by_length, encode_sentences, pad_sequences
from rnngraph.errors import InputError

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

Array = np.ndarray[Any, np.dtype[Any]]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.integers(-5, 9), max_size=6), min_size=1, max_size=5), st.none() | st.integers(1, 8),
       st.sampled_from(["pre", "post"]), st.sampled_from(["pre", "post"]),
       st.sampled_from(["int32", "float32", "int64"]), st.sampled_from([0, -1, 7.0]))
def test_padding_is_keras_s(sequences: list[list[int]], maxlen: int | None, padding: str, truncating: str, dtype: str,
                            value: float) -> None:
    arguments: dict[str, Any] = {"maxlen": maxlen, "padding": padding, "truncating": truncating, "dtype": dtype,
                                 "value": value}
    expected = keras.utils.pad_sequences(sequences, **arguments)
    got = pad_sequences(sequences, **arguments)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(got, expected)


def test_padding_of_features_and_texts() -> None:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(n, 3)).astype(np.float32) for n in (2, 5, 1)] + [np.zeros((0, 3), np.float32)]
    np.testing.assert_array_equal(pad_sequences(features, maxlen=4, dtype="float32"),
                                  keras.utils.pad_sequences(features, maxlen=4, dtype="float32"))
    texts = [["a"], ["b", "c"]]
    np.testing.assert_array_equal(pad_sequences(texts, dtype=object, value="-"),
                                  keras.utils.pad_sequences(texts, dtype=object, value="-"))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"sequences": []}, "expected a list of sequences"),
    ({"sequences": 3}, "expected a list of sequences"),
    ({"sequences": [1, 2]}, "expected sequences, got 1 at 0"),
    ({"sequences": [np.array(1)]}, "without axes"),
    ({"sequences": [[1]], "maxlen": 0}, "maxlen must be an integer >= 1"),
    ({"sequences": [[1]], "maxlen": 2.0}, "maxlen must be an integer >= 1"),
    ({"sequences": [[1]], "padding": "left"}, "padding is 'pre' or 'post'"),
    ({"sequences": [[1]], "truncating": "right"}, "truncating is 'pre' or 'post'"),
    ({"sequences": [[1]], "value": "x"}, "give dtype=object"),
    ({"sequences": [[1]], "dtype": "nonsense"}, "of dtype 'nonsense'"),
    ({"sequences": [["a"]]}, "sequence 0 as 'int32'"),
    ({"sequences": [[[1, 2]], [[1]]]}, "the steps of sequence 1 have the shape"),
])
def test_bad_padding(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pad_sequences(**arguments)


def test_encoding_as_mxnet_s_own_test_has_it() -> None:
    """tests/python/unittest/test_rnn.py, test_encode_sentences: new numbers never are the invalid one."""
    sentences = [["a", "b", "c"], ["b", "c", "d"]]
    result, vocab = encode_sentences(sentences, vocab=None, invalid_label=-1, invalid_key="\n", start_label=0)
    assert vocab == {"\n": -1, "a": 0, "b": 1, "c": 2, "d": 3}
    assert result == [[0, 1, 2], [1, 2, 3]]
    result, vocab = encode_sentences(sentences, vocab=None, invalid_label=-1, invalid_key="\n", start_label=0,
                                     unknown_token="UNK")
    assert "UNK" in vocab
    _, skipping = encode_sentences(sentences, invalid_label=1)
    assert skipping == {"\n": 1, "a": 0, "b": 2, "c": 3, "d": 4}
    given = {"a": 1, "b": 2, "c": 3}
    result, vocab = encode_sentences(sentences, vocab=given, unknown_token="UNK")
    assert result == [[1, 2, 3], [2, 3, 0]]
    assert vocab is given
    assert vocab["UNK"] == 0
    with pytest.raises(InputError, match="the token 'e' is not in the vocabulary"):
        encode_sentences([["e"]], vocab={"a": 1})


def test_one_number_for_the_unknown() -> None:
    vocab = {"a": 0, "b": 1}
    assert encode_sentences([["x", "a"], ["y"]], dict(vocab), unknown_token="UNK")[0] == [[0, 0], [1]]  # MXNet's
    result, found = encode_sentences([["x", "a"], ["y"]], dict(vocab), unknown_token="UNK", stable_unknown=True)
    assert (result, found["UNK"]) == ([[2, 0], [2]], 2)
    result, _ = encode_sentences([["x"], ["y"]], vocab | {"UNK": 9}, unknown_token="UNK", stable_unknown=True)
    assert result == [[9], [9]]


def mxnet_epochs(sentences: list[list[int]], batch_size: int, buckets: list[int], invalid: int, layout: str, seed: int,
                 epochs: int) -> list[list[tuple[int, Array, Array]]]:
    """The loop of BucketSentenceIter with Python's and numpy's own random state, written for this test."""
    random.seed(seed)
    np.random.seed(seed)
    held: list[Any] = [[] for _ in buckets]
    for sentence in sentences:
        place = bisect.bisect_left(buckets, len(sentence))
        if place < len(buckets):
            held[place].append(sentence + [invalid] * (buckets[place] - len(sentence)))
    held = [np.asarray(rows, "float32") for rows in held]
    places = [(i, j) for i, rows in enumerate(held) for j in range(0, len(rows) - batch_size + 1, batch_size)]
    found = []
    for _ in range(epochs):
        random.shuffle(places)
        for rows in held:
            np.random.shuffle(rows)
        epoch = []
        for i, j in places:
            data = held[i][j : j + batch_size].copy()
            label = np.concatenate([data[:, 1:], np.full((batch_size, 1), invalid, "float32")], 1)
            epoch.append((buckets[i], data if layout == "NT" else data.T, label if layout == "NT" else label.T))
        found.append(epoch)
    return found


@pytest.mark.parametrize("layout", ["NT", "TN"])
@pytest.mark.parametrize("seed", [0, 7])
def test_buckets_as_mxnet(layout: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sentences = [[int(t) for t in rng.integers(1, 50, n)] for n in rng.integers(1, 9, 60)]
    buckets = [3, 5, 7]
    with pytest.warns(UserWarning, match="dropped [0-9]+ sentences longer than the largest bucket, 7"):
        batches = BucketSentenceIter(sentences, 4, buckets=[7, 3, 5], invalid_label=0, layout=layout, seed=seed)
    assert batches.discarded == sum(len(s) > 7 for s in sentences)
    assert batches.default_bucket_key == 7
    assert batches.provide_data == [("data", (4, 7) if layout == "NT" else (7, 4), layout)]
    for number, expected in enumerate(mxnet_epochs(sentences, 4, buckets, 0, layout, seed, 2)):
        if number:
            assert list(batches) == []
            batches.reset()
        got = list(batches)
        assert [b.bucket_key for b in got] == [key for key, _, _ in expected]
        for batch, (_, data, label) in zip(got, expected, strict=True):
            assert batch.data.dtype == np.float32
            np.testing.assert_array_equal(batch.data, data)
            np.testing.assert_array_equal(batch.label, label)
    assert batches.left_over == len(sentences) - batches.discarded - 4 * len(batches)


def test_default_buckets_are_the_lengths_with_a_batch() -> None:
    sentences = [[1] * n for n in (2, 2, 3, 4, 4, 4)]
    assert BucketSentenceIter(sentences, 2).buckets == [2, 4]
    with pytest.raises(InputError, match="no length has 4 sentences"):
        BucketSentenceIter(sentences, 4)
    assert len(BucketSentenceIter(sentences, 2, buckets=[9, 40])) == 3  # an empty bucket is no error


@pytest.mark.parametrize(("arguments", "message"), [
    ({"batch_size": 0}, "batch_size must be an integer >= 1"), ({"layout": "NTC"}, "layout must be 'NT' or 'TN'"),
    ({"buckets": [0, 4]}, "buckets are lengths >= 1"), ({"sentences": []}, "no length has 2 sentences"),
])
def test_bad_buckets(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BucketSentenceIter(**{"sentences": [[1], [2]], "batch_size": 2, **arguments})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 8), st.none() | st.integers(30, 90),
       st.none() | st.integers(0, 9))
def test_batches_by_length(lengths: list[int], batch_size: int, max_steps: int | None, seed: int | None) -> None:
    batches = batches_by_length(lengths, batch_size, max_steps=max_steps, seed=seed)
    assert sorted(int(i) for b in batches for i in b) == list(range(len(lengths)))
    assert all(1 <= len(b) <= batch_size for b in batches)
    spans = sorted((min(lengths[i] for i in b), max(lengths[i] for i in b)) for b in batches)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    if max_steps is not None:
        assert all(max(lengths[i] for i in b) * len(b) <= max_steps for b in batches)
    again = batches_by_length(lengths, batch_size, max_steps=max_steps, seed=seed)
    assert [b.tolist() for b in batches] == [b.tolist() for b in again]


def test_batches_that_are_full() -> None:
    assert [len(b) for b in batches_by_length(np.arange(7), 3, drop_last=True)] == [3, 3]


@pytest.mark.parametrize(("lengths", "options", "message"), [
    ([], {}, "expected lengths"), ([1.0], {}, "expected lengths"), ([-1], {}, "integers >= 0"),
    ([[1]], {}, "expected lengths"), ([1], {"batch_size": 0}, "batch_size must be an integer >= 1"),
    ([1], {"max_steps": True}, "max_steps must be an integer >= 1"),
    ([9], {"max_steps": 8}, "sequence 0 has 9 steps, more than max_steps=8"),
    ([1], {"max_steps": 8, "drop_last": True}, "drop_last says nothing"),
])
def test_bad_lengths(lengths: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        batches_by_length(lengths, **({"batch_size": 2} | options))
