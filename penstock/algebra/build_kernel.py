"""Compiles the C kernel in place: `python penstock/algebra/build_kernel.py`. Replaced by the kernel's own build."""
