"""Data on its way to a model: numpy arrays in, numpy arrays out."""

from __future__ import annotations

from rnngraph.data.batching import batches_by_length
from rnngraph.data.chunks import Chunk, chunks
from rnngraph.data.packing import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)
from rnngraph.data.padding import pad_sequences
from rnngraph.data.sentences import BucketSentenceIter, SentenceBatch, encode_sentences

__all__ = ["BucketSentenceIter", "Chunk", "PackedSequence", "SentenceBatch", "batches_by_length", "chunks",
           "encode_sentences",
           "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence", "pad_sequences",
           "unpack_sequence", "unpad_sequence"]
