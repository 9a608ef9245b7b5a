"""Depth maps for images without depth, estimated by a monocular depth model and written as files that the readers load as they are.

    relative models   8-bit grey, the model's inverse depth stretched over each map's own range; near = bright, or inverted, near = dark
    metric models     16-bit grey in millimetres; 0 = not measured, and so is what lies beyond 65.5 m

``<out>/depth.json`` records the meaning of the files: {model, kind, near, scale_m, encoding}.
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
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import AutoImageProcessor, AutoModelForDepthEstimation

from smolrgpt.data.hub import local_folder
from smolrgpt.data.io import atomic_path, write_text
from smolrgpt.data.loading import SkipLog
from smolrgpt.precision import best_dtype
from smolrgpt.schema import DataError, DepthKind, Polarity
from smolrgpt.schema.depth_meaning import DEPTH_RECORD, MILLIMETRE
from smolrgpt.schema.image_file import read_rgb

DEFAULT_MODEL = "depth-anything/Depth-Anything-V2-Small-hf"
#: Kind of model -> the content of its files, for depth.json.
ENCODINGS: dict[DepthKind, str] = {
    "relative": "8-bit grey, inverse depth stretched over each map's own range",
    "metric": "16-bit grey, millimetres, 0 = not measured",
}
#: Data set -> the name of the map of an image ``stem``, and the near end of a relative map, as its reader expects.
LAYOUTS: dict[str, tuple[str, Polarity]] = {"osd": ("{stem}.png", "bright"), "warehouse": ("{stem}_depth.png", "dark")}
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"))
#: Kinds of depth models of transformers whose configuration does not give the kind.
_KINDS: dict[str, DepthKind] = {"zoedepth": "metric", "depth_pro": "metric", "glpn": "metric", "dpt": "relative"}
#: Images of different shapes cannot share a batch; this many batches' images may wait for others of their shape.
_MAX_WAITING_BATCHES = 4


@dataclass(frozen=True)
class _ModelInput:
    """An image as the model's input: pixel_values (1, 3, h, w) of the image of ``size`` (height, width)."""

    source: Path
    target: Path
    size: tuple[int, int]
    pixel_values: torch.Tensor


@dataclass(frozen=True)
class _Unreadable:
    """An image that cannot be read; the error names it."""

    error: str


class DepthEstimator:
    """A depth model and its image processor.

    Args:
        name: A folder or a hub id.
        kind: Metric or relative depth; None: by the model's configuration.
        device: By default the accelerator, if there is one.

    Raises:
        DataError: When the model cannot be found, or neither ``kind`` nor its configuration gives the kind.
    """

    def __init__(self, name: str, kind: DepthKind | None = None, device: str | torch.device | None = None):
        self.name = name
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        self.device = torch.device(device or accelerator or "cpu")
        folder = local_folder(name, "model", ("*.json", "*.safetensors"))
        try:
            self.processor: Any = AutoImageProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
            model = AutoModelForDepthEstimation.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{name}: no depth model ({str(error).splitlines()[0]}); expected one that AutoModelForDepthEstimation loads"
            ) from error
        found = kind or getattr(model.config, "depth_estimation_type", None) or _KINDS.get(model.config.model_type)
        if found not in ("relative", "metric"):
            raise DataError(
                f"{name}: a {model.config.model_type} model whose configuration gives neither 'relative' nor 'metric'; give the kind"
            )
        self.kind: DepthKind = found
        # bf16 has steps of 3 cm at 5 m, so metric models run in float32
        self.dtype = best_dtype(self.device) if self.kind == "relative" else torch.float32
        self.model = model.to(self.device, self.dtype).eval()
        if hasattr(self.model, "head"):  # its output is the map: in bf16 the near half of a map would have at most 128 levels
            self.model.head.float().register_forward_pre_hook(lambda _, inputs: tuple(_float32(value) for value in inputs))

    @torch.inference_mode()
    def estimate(self, pixel_values: torch.Tensor, sizes: list[tuple[int, int]]) -> list[np.ndarray]:
        """Estimate float32 maps of ``sizes`` (height, width) from (B, 3, h, w): metres, or inverse depth without a unit (near = large)."""
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
    """Write the depth map of every image under ``images`` to the same relative path under ``out``; return how many were written.

    Existing maps are kept, so an interrupted run goes on where it stopped. Images that cannot be read, and maps without any contrast, are
    counted in ``skips`` and get no file.

    Args:
        images: The folder of images, with folders below it.
        out: The folder of maps.
        estimator: The model.
        layout: A name of ``LAYOUTS``.
        batch_size: Images per batch of the model.
        workers: Processes that read images; None: 0 on CPUs, where the model is slower than reading, else up to 8.
        progress: Whether to show a progress bar.
        skips: Counts the skipped images.

    Raises:
        DataError: For a folder without images, two images with one map, an unknown layout, or an ``out`` whose depth.json has another
            content.
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
    inputs = DataLoader(_ImageDataset(todo, estimator.processor), batch_size=None, num_workers=workers)
    written = 0
    bar = tqdm(total=len(targets), initial=len(targets) - len(todo), desc="depth", unit="image", file=sys.stderr, disable=not progress)
    with bar:
        for batch in _batches(inputs, batch_size, skips, bar):
            maps = estimator.estimate(torch.cat([item.pixel_values for item in batch]), [item.size for item in batch])
            for item, values in zip(batch, maps, strict=True):
                written += _write_map(item, values, estimator.kind, near, skips)
            bar.update(len(batch))
    return written


def _float32(value: Any) -> Any:
    """Convert tensors, also in lists, to float32."""
    if isinstance(value, (list, tuple)):
        return [_float32(part) for part in value]
    return value.float() if isinstance(value, torch.Tensor) else value


class _ImageDataset(Dataset[_ModelInput | _Unreadable]):
    """The images to estimate; a damaged one is an item as well, because an exception would end the loader."""

    def __init__(self, todo: list[tuple[Path, Path]], processor: Any):
        self.todo, self.processor = todo, processor

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, index: int) -> _ModelInput | _Unreadable:
        source, target = self.todo[index]
        try:
            image = read_rgb(source)
        except DataError as error:
            return _Unreadable(str(error))
        pixel_values = self.processor(images=image, return_tensors="pt")["pixel_values"]
        return _ModelInput(source, target, (image.height, image.width), pixel_values)


def _batches(inputs: Iterable[_ModelInput | _Unreadable], batch_size: int, skips: SkipLog, bar: tqdm) -> Iterator[list[_ModelInput]]:
    """Yield batches of one input shape each."""
    waiting: dict[tuple[int, ...], list[_ModelInput]] = {}
    for item in inputs:
        if isinstance(item, _Unreadable):
            skips.add("unreadable image", item.error)
            bar.update()
            continue
        waiting.setdefault(tuple(item.pixel_values.shape), []).append(item)
        fullest = max(waiting, key=lambda shape: len(waiting[shape]))
        if len(waiting[fullest]) == batch_size or sum(map(len, waiting.values())) >= _MAX_WAITING_BATCHES * batch_size:
            yield waiting.pop(fullest)
    yield from waiting.values()


def _targets(images: Path, out: Path, pattern: str) -> dict[Path, Path]:
    """Return map file -> image, in order of the images' names."""
    if not images.is_dir():
        raise DataError(f"{images}: no such folder; expected a folder of images")
    if out.resolve() == images.resolve():
        raise DataError(f"{out}: the depth maps would be in the folder of images and be read as images; use another folder")
    sources = sorted(
        path for path in images.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and out not in path.parents
    )
    if not sources:
        raise DataError(f"{images} holds no image; expected {', '.join(sorted(IMAGE_SUFFIXES))}, also in folders below")
    targets: dict[Path, Path] = {}
    for source in sources:
        target = out / source.relative_to(images).with_name(pattern.format(stem=source.stem))
        if targets.setdefault(target, source) != source:
            raise DataError(f"{source}: its depth map would be {target}, which is also that of {targets[target]}; rename one of them")
    return targets


def _write_record(out: Path, estimator: DepthEstimator, near: Polarity) -> None:
    """Write depth.json, before the first map, so that no folder with maps is without it."""
    is_metric = estimator.kind == "metric"
    record = {
        "model": estimator.name,
        "kind": estimator.kind,
        "near": "dark" if is_metric else near,
        "scale_m": MILLIMETRE if is_metric else None,
        "encoding": ENCODINGS[estimator.kind],
    }
    path = out / DEPTH_RECORD
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if name := next((name for name, value in record.items() if found.get(name) != value), None):
            raise DataError(
                f"{path}: {name} is {found.get(name)!r}, that of this run is {record[name]!r}: the maps have another meaning; "
                "use another OUT"
            )
        return
    write_text(path, json.dumps(record, indent=1) + "\n")


def _write_map(item: _ModelInput, values: np.ndarray, kind: DepthKind, near: Polarity, skips: SkipLog) -> bool:
    """Write a map and return whether it was written; a map that is constant or holds NaN is skipped."""
    low, high = float(values.min()), float(values.max())
    if not low < high:  # also when either is NaN
        skips.add("depth without contrast", f"{item.source}: the model's depth is {low:g} everywhere")
        return False
    pixels = encode_metric(values) if kind == "metric" else encode_relative(values, near)
    with atomic_path(item.target) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
    return True


def encode_relative(inverse_depth: np.ndarray, near: Polarity) -> np.ndarray:
    """Stretch inverse depth (H, W) (near = large), not constant, over its range to uint8 (H, W) with ``near`` at that end."""
    low, high = float(inverse_depth.min()), float(inverse_depth.max())
    bright = np.round((inverse_depth - low) / (high - low) * 255).astype(np.uint8)
    return bright if near == "bright" else 255 - bright


def encode_metric(depth_m: np.ndarray) -> np.ndarray:
    """Convert metres (H, W) to uint16 millimetres (H, W); what is not in (0, 65.535) m is 0, not measured."""
    millimetres = np.round(depth_m.astype(np.float64) / MILLIMETRE)
    return np.where((millimetres > 0) & (millimetres < np.iinfo(np.uint16).max), millimetres, 0).astype(np.uint16)
