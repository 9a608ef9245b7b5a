"""Benchmarks of speed and memory, run from the repository root as ``python -m benchmarks.NAME``; not part of the package."""
