"""What runs a compiled graph: segments, programs, the model that users call. Import from the modules themselves."""
