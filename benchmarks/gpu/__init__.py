"""The check of a GPU, `python benchmarks/gpu_check.py`: a module a section, each run in a process of its own."""
