"""Depth maps for pictures that have none, by a monocular depth model, in files that the readers load back as they are.

    relative models   8-bit grey, the model's inverse depth stretched over each map's own range; near = bright, or turned round, near = dark
    metric models     16-bit grey in millimetres; 0 = not measured, and so is what lies beyond 65.5 m

``<out>/depth.json`` records what the files mean: {model, kind, near, scale_m, encoding}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import AutoImageProcessor, AutoModelForDepthEstimation

from smolrgpt.data.hub import local_folder
from smolrgpt.data.io import atomic_path
from smolrgpt.data.loading import SkipLog
from smolrgpt.precision import best_dtype
from smolrgpt.schema import DataError, DepthKind, Polarity
from smolrgpt.schema.depth_map import MILLIMETRE
from smolrgpt.schema.image_file import read_image, to_rgb

DEFAULT_MODEL = "depth-anything/Depth-Anything-V2-Small-hf"
#: What the files of a kind of model hold, for depth.json.
ENCODINGS: dict[DepthKind, str] = {
    "relative": "8-bit grey, inverse depth stretched over each map's own range",
    "metric": "16-bit grey, millimetres, 0 = not measured",
}
#: Data set -> how it names the map of a picture ``stem`` and which end of a relative map is near, as its reader expects.
LAYOUTS: dict[str, tuple[str, Polarity]] = {"osd": ("{stem}.png", "bright"), "warehouse": ("{stem}_depth.png", "dark")}
RECORD = "depth.json"
PICTURES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"))
#: Depth models of transformers whose configuration does not say what they estimate.
_KINDS: dict[str, DepthKind] = {"zoedepth": "metric", "depth_pro": "metric", "glpn": "metric", "dpt": "relative"}
#: Pictures of different shapes cannot share a batch; this many batches' worth may wait for others of their shape.
_WAITING_BATCHES = 4


@dataclass(frozen=True)
class _Prepared:
    """A picture as the model's input: pixel_values (1, 3, h, w) of the picture of ``size`` = (height, width); or why there is none."""

    source: Path
    target: Path
    size: tuple[int, int] = (0, 0)
    pixel_values: torch.Tensor | None = None
    error: str = ""


class DepthEstimator:
    """A depth model and its processor. ``kind``: None = as the model's configuration says.

    Raises DataError when the model cannot be found, or says neither that it is relative nor that it is metric and ``kind`` is None.
    """

    def __init__(self, name: str, kind: DepthKind | None = None, device: str | torch.device | None = None):
        self.name = name
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        self.device = torch.device(device or accelerator or "cpu")
        folder = local_folder(name, "model", ("*.json", "*.safetensors"))
        try:
            self.processor = AutoImageProcessor.from_pretrained(folder)
            model = AutoModelForDepthEstimation.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{name}: no depth model ({str(error).splitlines()[0]}); expected one that AutoModelForDepthEstimation loads"
            ) from error
        found = kind or getattr(model.config, "depth_estimation_type", None) or _KINDS.get(model.config.model_type)
        if found not in ("relative", "metric"):
            raise DataError(f"{name}: a {model.config.model_type} model says neither 'relative' nor 'metric'; give the kind")
        self.kind: DepthKind = found
        # bf16 has steps of 3 cm at 5 m, so metres are computed in float32 altogether
        self.dtype = best_dtype(self.device) if self.kind == "relative" else torch.float32
        self.model = model.to(self.device, self.dtype).eval()
        if hasattr(self.model, "head"):  # its numbers are the map: in bf16 the near half of a map would have at most 128 levels
            self.model.head.float().register_forward_pre_hook(lambda _, inputs: tuple(_float32(value) for value in inputs))

    @torch.inference_mode()
    def estimate(self, pixel_values: torch.Tensor, sizes: list[tuple[int, int]]) -> list[np.ndarray]:
        """(B, 3, h, w) to B float32 maps (height, width) of ``sizes``: metres, or inverse depth without a unit (near = large)."""
        outputs = self.model(pixel_values=pixel_values.to(self.device, self.dtype))
        outputs.predicted_depth = outputs.predicted_depth.float()  # also of a model without a head of its own
        maps = self.processor.post_process_depth_estimation(outputs, sizes)
        return [found["predicted_depth"].cpu().numpy() for found in maps]


def estimate_depth(
    images: Path | str,
    out: Path | str,
    estimator: DepthEstimator,
    *,
    layout: str = "osd",
    batch_size: int = 8,
    workers: int | None = None,
    progress: bool = True,
    skips: SkipLog | None = None,
) -> int:
    """Write the depth map of every picture under ``images`` to the same place under ``out``; returns how many were written.

    layout: of ``LAYOUTS``. Maps that are there are kept, so that a broken-off run goes on. workers: processes that read pictures; None = 0
    on CPUs, where the model is slower than they are, else up to 8. Pictures that cannot be read, and maps without any contrast, are counted
    in ``skips`` and get no file. Raises DataError for a folder without pictures, two pictures of one map, an unknown layout, or an ``out``
    whose depth.json says something else.
    """
    images, out, skips = Path(images), Path(out), SkipLog() if skips is None else skips
    if layout not in LAYOUTS:
        raise DataError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    pattern, near = LAYOUTS[layout]
    targets = _targets(images, out, pattern)
    _write_record(out, estimator, near)
    todo = [(source, target) for target, source in targets.items() if not target.is_file()]
    if workers is None:
        workers = 0 if estimator.device.type == "cpu" else min(8, os.cpu_count() or 1)
    prepared: Iterable[_Prepared] = DataLoader(_Pictures(todo, estimator.processor), batch_size=None, num_workers=workers)  # type: ignore[arg-type]
    written = 0
    bar = tqdm(total=len(targets), initial=len(targets) - len(todo), desc="depth", unit="image", file=sys.stderr, disable=not progress)
    with bar:
        for batch in _batches(prepared, batch_size, skips, bar):
            maps = estimator.estimate(torch.cat([item.pixel_values for item in batch]), [item.size for item in batch])  # type: ignore[misc]
            for item, values in zip(batch, maps, strict=True):
                written += _write_map(item, values, estimator.kind, near, skips)
            bar.update(len(batch))
    return written


def _float32(value: Any) -> Any:
    """Tensors, also in lists, as float32."""
    if isinstance(value, (list, tuple)):
        return [_float32(part) for part in value]
    return value.float() if isinstance(value, torch.Tensor) else value


class _Pictures:
    """A map-style data set of ``_Prepared``; a broken picture is one with an error, for exceptions would end the loader."""

    def __init__(self, todo: list[tuple[Path, Path]], processor: Any):
        self.todo, self.processor = todo, processor

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, index: int) -> _Prepared:
        source, target = self.todo[index]
        try:
            image = to_rgb(read_image(source))
        except DataError as error:
            return _Prepared(source, target, error=str(error))
        return _Prepared(source, target, (image.height, image.width), self.processor(images=image, return_tensors="pt")["pixel_values"])


def _batches(prepared: Iterable[_Prepared], batch_size: int, skips: SkipLog, bar: Any) -> Iterator[list[_Prepared]]:
    """Batches of one input shape each."""
    waiting: dict[tuple[int, ...], list[_Prepared]] = {}
    for item in prepared:
        if item.pixel_values is None:
            skips.add("unreadable image", item.error)
            bar.update()
            continue
        waiting.setdefault(tuple(item.pixel_values.shape), []).append(item)
        fullest = max(waiting, key=lambda shape: len(waiting[shape]))
        if len(waiting[fullest]) == batch_size or sum(map(len, waiting.values())) >= _WAITING_BATCHES * batch_size:
            yield waiting.pop(fullest)
    yield from waiting.values()


def _targets(images: Path, out: Path, pattern: str) -> dict[Path, Path]:
    """Map file -> picture, in order of the pictures' names."""
    if not images.is_dir():
        raise DataError(f"{images}: no such folder; expected a folder of pictures")
    if out.resolve() == images.resolve():
        raise DataError(f"{out}: the depth maps would lie among the pictures and be taken for some; use another folder")
    sources = sorted(path for path in images.rglob("*") if path.suffix.lower() in PICTURES and path.is_file() and out not in path.parents)
    if not sources:
        raise DataError(f"{images} holds no picture; expected {', '.join(sorted(PICTURES))}, also in folders below")
    targets: dict[Path, Path] = {}
    for source in sources:
        target = out / source.relative_to(images).with_name(pattern.format(stem=source.stem))
        if targets.setdefault(target, source) != source:
            raise DataError(f"{source}: its depth map would be {target}, which is also that of {targets[target]}; rename one of them")
    return targets


def _write_record(out: Path, estimator: DepthEstimator, near: Polarity) -> None:
    """depth.json, before the first map, so that no folder with maps is without it."""
    metric = estimator.kind == "metric"
    record = {
        "model": estimator.name,
        "kind": estimator.kind,
        "near": "dark" if metric else near,
        "scale_m": MILLIMETRE if metric else None,
        "encoding": ENCODINGS[estimator.kind],
    }
    path = out / RECORD
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name, value in record.items() if found.get(name) != value]
        if differing:
            name = differing[0]
            raise DataError(
                f"{path}: {name} is {found.get(name)!r}, this run's is {record[name]!r}: these maps mean something else; use another OUT"
            )
        return
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _write_map(item: _Prepared, values: np.ndarray, kind: DepthKind, near: Polarity, skips: SkipLog) -> bool:
    """Whether a file was written: a map that is the same everywhere, or holds NaN, says nothing."""
    low, high = float(values.min()), float(values.max())
    if not low < high:  # also when either is NaN
        skips.add("depth without contrast", f"{item.source}: the model's depth is {low:g} everywhere")
        return False
    pixels = encode_metric(values) if kind == "metric" else encode_relative(values, near)
    with atomic_path(item.target) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
    return True


def encode_relative(inverse_depth: np.ndarray, near: Polarity) -> np.ndarray:
    """(H, W) inverse depth (near = large), not constant, to uint8 (H, W) stretched over its range, with ``near`` at that end."""
    low, high = float(inverse_depth.min()), float(inverse_depth.max())
    bright = np.round((inverse_depth - low) / (high - low) * 255).astype(np.uint8)
    return bright if near == "bright" else 255 - bright


def encode_metric(depth_m: np.ndarray) -> np.ndarray:
    """(H, W) metres to uint16 (H, W) millimetres; what is not in (0, 65.535] m is 0, not measured."""
    millimetres = np.round(depth_m.astype(np.float64) / MILLIMETRE)
    return np.where((millimetres > 0) & (millimetres <= np.iinfo(np.uint16).max), millimetres, 0).astype(np.uint16)
