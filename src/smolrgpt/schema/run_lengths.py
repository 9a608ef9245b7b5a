"""COCO run lengths: checked before pycocotools decodes them, because it reads past the end of damaged ones.

Legend: H W height and width of a mask in pixels. Run lengths count column-major pixels, outside and inside the mask in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

from smolrgpt.schema.errors import DataError, brief

#: Pixels of one mask at most; Pillow's limit for an image.
MAX_PIXELS = 89_478_485


def check_size(size: Any) -> tuple[int, int]:
    """Return (height, width) of run lengths. Raises DataError unless they are two whole numbers of up to ``MAX_PIXELS`` pixels."""
    found = [_count(side) for side in size] if isinstance(size, (list, tuple, np.ndarray)) else []
    if len(found) != 2 or min(found) <= 0:
        raise DataError(
            f"run lengths have size {brief(size)}; they are not {{'size': [H, W], 'counts': ...}} with two positive whole numbers"
        )
    _check_pixels(found[0], found[1])
    return found[0], found[1]


def _count(value: Any) -> int:
    """Return a whole number as int, -1 for anything else."""
    return int(value) if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else -1


def _check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise DataError(f"a mask of {width}x{height} pixels is too large; expected at most {MAX_PIXELS} pixels, scale it down first")


def encode_mask(inside: np.ndarray) -> str:
    """Compress a bool (H, W) mask."""
    return _text(coco.encode(np.asfortranarray(inside, dtype=np.uint8)))


def encode_polygons(polygons: Sequence[np.ndarray], height: int, width: int) -> str:
    """Compress the union of polygons, each (2 N,) x and y in turn, in pixels of the (height, width) image."""
    return _text(coco.merge(coco.frPyObjects([polygon.tolist() for polygon in polygons], height, width)))


def encode_runs(runs: Sequence[Any] | np.ndarray, height: int, width: int) -> str:
    """Compress a list of run lengths. Raises DataError unless they are whole numbers that add up to height x width."""
    counts = [_count(run) for run in runs]
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise DataError(f"uncompressed run lengths do not sum to {height} x {width}, or are no counts: {brief(runs)}")
    return _text(coco.frPyObjects({"size": [height, width], "counts": counts}, height, width))


def decode_mask(counts: str, height: int, width: int) -> np.ndarray:
    """Decode to a bool (H, W) mask. Raises the same errors as ``decode_runs``."""
    decode_runs(counts, height, width)
    return np.ascontiguousarray(coco.decode({"size": [height, width], "counts": counts}), dtype=bool)


def decode_runs(counts: str, height: int, width: int) -> np.ndarray:
    """Decode to int64 run lengths, the first of them outside the mask.

    Raises DataError when the string is damaged, when the runs do not add up to height x width, and beyond ``MAX_PIXELS``.
    """
    _check_pixels(height, width)
    runs = _parse(counts)
    if runs is None or (runs < 0).any() or int(runs.sum()) != height * width:
        found = "not decodable" if runs is None else f"{int(runs.sum())} pixels"
        raise DataError(f"corrupt run lengths {counts[:24]!r}...: {found}; expected runs of {height} x {width} = {height * width} pixels")
    return runs


def _parse(counts: str) -> np.ndarray | None:
    """Read the int64 run lengths of a compressed string, None when it is no such string.

    The format is ``rleFrString`` of COCO's maskApi.c: five bits a character, least significant first; bit 5 = more characters follow; bit 4
    of the last character = sign; from the fourth run on, the difference to the run two before.
    """
    codes = np.frombuffer(counts.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    starts = np.concatenate(([0], np.flatnonzero((codes & 32) == 0)[:-1] + 1))
    lengths = np.diff(np.append(starts, codes.size))
    if lengths.max() > 8:  # 40 bits: no image is that large, and more would overflow
        return None
    shift = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    runs: np.ndarray = np.add.reduceat((codes & 31) << shift, starts)
    runs -= np.where(codes[starts + lengths - 1] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _text(rle: dict[str, Any]) -> str:
    return str(rle["counts"].decode("ascii"))
