"""Which samples lie in a folder or a file that a user names."""

from __future__ import annotations

from pathlib import Path

from smolrgpt.data.sources import read_source
from smolrgpt.schema import Sample


def read_samples(data: Path, source: str | None = None, split: str | None = None, depth: str = "auto") -> list[Sample]:
    """Read a data set.

    Args:
        data: A folder, or a file of samples.
        source: Name of the reader; by default "samples" for a file and "warehouse" for a folder.
        split: Which split; by default "val", or the only one that a warehouse set has.
        depth: Which depth maps of a warehouse set to use: "auto", "metric", "relative" or "none".

    Raises:
        DataError: If a row or file cannot be used at all, or the split is unclear.
        ValueError: If the folder does not exist.
    """
    kind = source or ("samples" if data.is_file() else "warehouse")
    if kind == "warehouse":
        from smolrgpt.evaluation.report import load_samples

        return load_samples(require_folder(data), split, depth)
    return read_source(kind, data, split or "val")


def require_folder(folder: Path) -> Path:
    """Return the folder. Raises ValueError that says how to draw a data set if it does not exist."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; 'smolrgpt synth {folder} --scenes 100' draws a data set there")
    return folder
