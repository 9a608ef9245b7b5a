"""Programs of experiments, run from the repository root as ``python -m experiments.NAME``; not part of the package."""
