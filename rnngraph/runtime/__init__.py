"""What runs a compiled graph: segments, programs, the model that users call."""
