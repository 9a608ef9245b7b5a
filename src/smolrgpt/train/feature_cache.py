"""Features of a frozen vision tower, kept on disk by the content of the image: computed once, whatever the epoch, stage or run.

<folder>/<tower>-<dtype>/ab/abcdef....safetensors     "patches" (patches, C); the name is a hash of the pixels as the tower gets them

<tower> is a hash of the tower's configuration and weights, so another tower never reads these features. Files are written under a temporary
name and renamed; processes may share a folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from smolrgpt.data.io import atomic_path
from smolrgpt.data.mixture import column
from smolrgpt.model import SmolRGPTForConditionalGeneration
from smolrgpt.schema import Sample
from smolrgpt.train.config import Run, Stage
from smolrgpt.train.optim import apply_rates

logger = logging.getLogger(__name__)

_KEY = "patches"
#: Entries of a configuration that do not change the features: where it was read from, by which version, in which number format.
_IRRELEVANT = ("_name_or_path", "transformers_version", "dtype")
#: Of 32 bytes; the chance that two of a million million images share one is 1e-53.
_HASH = hashlib.sha256


def feature_bytes(config: Any, dtype: torch.dtype) -> int:
    """Return the bytes that an image takes: patch features of RGB and, where regions pool from depth, of its depth image."""
    vision = config.vision_config
    num_images = 2 if "depth" in config.pooled_tokens else 1
    size: int = num_images * (vision.image_size // vision.patch_size) ** 2 * vision.hidden_size * dtype.itemsize
    return size


def open_feature_cache(
    config: Run, stage: Stage, model: SmolRGPTForConditionalGeneration, sources: Mapping[str, Sequence[Sample]], dtype: torch.dtype
) -> FeatureCache | None:
    """Return the run's cache for a stage with a frozen vision tower, else None. Raises ValueError when the disk is too small."""
    if config.feature_cache is None:
        return None
    if any("vision_tower." in name for name in apply_rates(model, stage.rates)):
        logger.info("stage %s: the vision tower learns, so its features are not cached", stage.name)
        return None
    features = FeatureCache(config.feature_cache, model, dtype)
    features.require_disk_space(sources[name] for name in stage.mixture)
    return features


class FeatureCache:
    """The tower's features of a batch: read where they are cached, else computed (under the caller's autocast) and written.

    dtype: of the files. Under bfloat16 autocast, bfloat16 loses nothing, as the connectors round their inputs to it anyway.
    ``hits`` and ``misses`` count images, RGB and depth images separately.
    """

    def __init__(self, folder: Path | str, model: SmolRGPTForConditionalGeneration, dtype: torch.dtype):
        self.model, self.dtype = model, dtype
        self.folder = Path(folder).expanduser() / f"{tower_digest(model.model.vision_tower)}-{str(dtype).removeprefix('torch.')}"
        self.hits = self.misses = 0
        self._writes = True

    def require_disk_space(self, sources: Iterable[Sequence[Sample]]) -> None:
        """Log how much the images of these sources take, before any of it is written. Raises ValueError when the disk has less."""
        num_images = len(set().union(*(column(source, "image_key") for source in sources)))
        self.folder.mkdir(parents=True, exist_ok=True)
        needed = num_images * feature_bytes(self.model.config, self.dtype)
        used = sum(file.stat().st_size for file in self.folder.glob("*/*.safetensors"))
        free = shutil.disk_usage(self.folder).free
        size = f"frozen features of {num_images:,} images take up to {_gigabytes(needed)} in {self.folder} ({_gigabytes(used)} there)"
        if needed - used > free:
            raise ValueError(f"{size}, and {_gigabytes(free)} are free; choose another feature_cache, or leave it out")
        logger.info("%s; %s are free", size, _gigabytes(free))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch with ``patch_features`` (V, I, patches, C) instead of ``pixel_values`` and ``depth_values``.

        A batch without images (of a model that reads text alone) is returned unchanged.
        """
        if "pixel_values" not in batch:
            return batch
        regions = batch.get("region_masks")
        with_depth = self.model.model.uses_depth and regions is not None and len(regions) > 0
        images = torch.stack([batch["pixel_values"], batch["depth_values"]] if with_depth else [batch["pixel_values"]])
        features = self._features(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        others = {name: value for name, value in batch.items() if name not in ("pixel_values", "depth_values")}
        return {**others, "patch_features": features}

    def _features(self, images: Tensor) -> Tensor:
        """Return the features of images on their device: (N, 3, S, S) -> (N, patches, C)."""
        keys = [_HASH(image.numpy()).hexdigest() for image in images.cpu().contiguous()]
        found = {key: patches for key in dict.fromkeys(keys) if (patches := self._read(key)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            with torch.no_grad():
                computed = self.model.model.encode_patches(images[[keys.index(key) for key in missing]]).to("cpu", self.dtype)
            for key, patches in zip(missing, computed, strict=True):
                found[key] = patches
                self._write(key, patches)
        self.misses += len(missing)
        self.hits += len(keys) - len(missing)
        return torch.stack([found[key] for key in keys]).to(images.device)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> Tensor | None:
        path = self._path(key)
        try:
            return load_file(path)[_KEY]
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError) as error:
            logger.warning("%s cannot be read (%s); its features are computed again", path, error)
            return None

    def _write(self, key: str, patches: Tensor) -> None:
        """Write a file; after the first that cannot be written, write no more: training continues, as fast as without a cache."""
        if not self._writes:
            return
        path = self._path(key)
        try:
            with atomic_path(path, concurrent=True) as temporary:
                save_file({_KEY: patches.contiguous()}, temporary)
        except (OSError, SafetensorError) as error:
            self._writes = False
            logger.warning("%s cannot be written (%s); frozen features are no longer cached", path, error)


def tower_digest(tower: nn.Module) -> str:
    """Return 16 hexadecimal digits that differ for towers with different configurations or weights."""
    all_fields = cast("Any", tower).config.to_dict()
    config = {name: value for name, value in all_fields.items() if name not in _IRRELEVANT}
    digest = _HASH(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in tower.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy() if value.dim() else str(value).encode())
    return digest.hexdigest()[:16]


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
