"""CUDA C from stages: the phases that the CPU's generator reads too, as kernels."""
