"""Programs for those who maintain the package, run from the repository root as ``python -m tools.NAME``; not part of the package."""
