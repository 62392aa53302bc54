"""Many words at once: the model of `rnngraph demo` on a batch of variable lengths."""

from rnngraph.demo.g2p import Pronouncer
from rnngraph.demo.g2p_checkpoint import phonemes, spell

words = ["variable", "lengths", "share", "one", "batch"]
model = Pronouncer()
for word, numbers in zip(words, model.predict_batch([spell(word) for word in words]), strict=True):
    print(f"{word:10} {phonemes(numbers)}")
print("\ncompiled for lengths, the encoder reads", ", ".join(model.encoder.variant(lengths=True).report.inputs))
