"""What a frozen vision tower makes of a picture, kept on disk under the picture's content: computed once, whatever the epoch, stage or run.

<folder>/<tower>-<dtype>/ab/abcdef....safetensors     "patches" (patches, C); the name is a hash of the pixels as the tower sees them

<tower> is a hash of the tower's configuration and weights, so another tower never reads this one's features. Files are written under a
temporary name and renamed; processes may share a folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from smolrgpt.data.io import atomic_path
from smolrgpt.data.mixture import column
from smolrgpt.model import SmolRGPTForConditionalGeneration
from smolrgpt.schema import Sample

logger = logging.getLogger(__name__)

_KEY = "patches"
#: What a configuration says besides: where it was read from, by which version, to which number format.
_NOT_THE_TOWER = ("_name_or_path", "transformers_version", "dtype")
#: Of 32 bytes each; two of them alike by chance in a million million pictures: 1e-53.
_HASH = hashlib.sha256


def feature_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes an image takes: patch features of its RGB picture and, where regions pool from depth, of its depth picture."""
    vision = config.vision_config
    pictures = 2 if "depth" in config.pooled_tokens else 1
    return pictures * (vision.image_size // vision.patch_size) ** 2 * vision.hidden_size * dtype.itemsize


class FeatureCache:
    """The tower's features of a batch, read where they are known, else computed (under the caller's autocast) and written.

    dtype: what is stored. With bfloat16 autocast, bfloat16 loses nothing: the connectors' products round to it anyway.
    ``hits`` and ``misses`` count pictures, RGB and depth apart.
    """

    def __init__(self, folder: Path | str, model: SmolRGPTForConditionalGeneration, dtype: torch.dtype):
        self.model, self.dtype = model, dtype
        self.folder = Path(folder).expanduser() / f"{tower_digest(model.model.vision_tower)}-{str(dtype).removeprefix('torch.')}"
        self.hits = self.misses = 0
        self._writes = True

    def require_room(self, samples: Iterable[Sequence[Sample]]) -> None:
        """Say how much the images of these sources take, before any of it is written. Raises ValueError when the disk has less."""
        num_images = len(set().union(*(column(source, "image_key") for source in samples)))
        self.folder.mkdir(parents=True, exist_ok=True)
        needed = num_images * feature_bytes(self.model.config, self.dtype)
        there, free = sum(file.stat().st_size for file in self.folder.glob("*/*.safetensors")), shutil.disk_usage(self.folder).free
        size = f"frozen features of {num_images:,} images take up to {_gigabytes(needed)} in {self.folder} ({_gigabytes(there)} there)"
        if needed - there > free:
            raise ValueError(f"{size}, and {_gigabytes(free)} are free; choose another feature_cache, or leave it out")
        logger.info("%s; %s are free", size, _gigabytes(free))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with ``patch_features`` (V, I, patches, C) in the place of ``pixel_values`` and ``depth_values``.

        A batch without pictures (a blind model's) comes back as it is.
        """
        if "pixel_values" not in batch:
            return batch
        regions = batch.get("region_masks")
        with_depth = self.model.model.uses_depth and regions is not None and len(regions) > 0
        pictures = torch.stack([batch["pixel_values"], batch["depth_values"]] if with_depth else [batch["pixel_values"]])
        features = self._features(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        kept = {name: value for name, value in batch.items() if name not in ("pixel_values", "depth_values")}
        return {**kept, "patch_features": features}

    def _features(self, pictures: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, patches, C), on their device."""
        keys = [_HASH(picture.numpy()).hexdigest() for picture in pictures.cpu().contiguous()]
        found = {key: patches for key in dict.fromkeys(keys) if (patches := self._read(key)) is not None}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            with torch.no_grad():
                made = self.model.model.encode_patches(pictures[[keys.index(key) for key in missing]]).to("cpu", self.dtype)
            for key, patches in zip(missing, made, strict=True):
                found[key] = patches
                self._write(key, patches)
        self.misses += len(missing)
        self.hits += len(keys) - len(missing)
        return torch.stack([found[key] for key in keys]).to(pictures.device)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> Tensor | None:
        path = self._path(key)
        try:
            return load_file(path)[_KEY]
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError) as error:
            logger.warning("%s cannot be read (%s); computed again", path, error)
            return None

    def _write(self, key: str, patches: Tensor) -> None:
        """Once the disk does not take a file, nothing is written any more: training goes on, as fast as without."""
        if not self._writes:
            return
        path = self._path(key)
        try:
            with atomic_path(path, concurrent=True) as temporary:
                save_file({_KEY: patches.contiguous()}, temporary)
        except (OSError, SafetensorError) as error:
            self._writes = False
            logger.warning("%s cannot be written (%s); frozen features are no longer kept", path, error)


def tower_digest(tower: nn.Module) -> str:
    """16 hexadecimal digits that differ for towers whose configuration or weights do."""
    config = {name: value for name, value in tower.config.to_dict().items() if name not in _NOT_THE_TOWER}  # type: ignore[operator,union-attr]
    digest = _HASH(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in tower.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy() if value.dim() else str(value).encode())
    return digest.hexdigest()[:16]


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
