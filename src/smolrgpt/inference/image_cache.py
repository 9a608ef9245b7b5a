"""Images encoded once for all questions about them, and the cache that keeps them within a budget of bytes.

Legend: I images, N regions, P image tokens, D width of the language model, G side of a region map.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from smolrgpt.data.collate import prepare_image
from smolrgpt.data.frame import Frame
from smolrgpt.model import RegionFeatures
from smolrgpt.schema import Region

#: Budget of a Predictor's encoded images in bytes: about fifteen of the published model's, hundreds of nano's.
CACHE_BYTES = 256_000_000
#: Images encoded together on an accelerator.
IMAGES_PER_STEP = 16
#: Images encoded together on a CPU: two keep two cores busy, more would only take memory.
IMAGES_PER_CPU_STEP = 2

#: Keys and values of each layer (I, heads, tokens, width): the language model's cache of a prompt's first tokens, the image included.
PrefixCache = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(eq=False)
class EncodedImage:
    """The model's tensors of one image, computed when they are first needed.

    Attributes:
        content_key: the image's key in an ``ImageCache``; None for an image that is not cached.
        image_embeds: (1, P, D).
        region_maps: kind -> (1, G*G, D), of which regions are pooled; only of cached images, a hundred times as large as the rest.
        region_features: of each region, N = 1.
        prefix: of prompts about the image, I = 1; only of cached images.
    """

    content_key: Hashable = None
    image_embeds: torch.Tensor | None = None
    region_maps: dict[str, torch.Tensor] = field(default_factory=dict)
    region_features: dict[Region, RegionFeatures] = field(default_factory=dict)
    prefix: PrefixCache = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Memory of all tensors in bytes."""
        embeds = () if self.image_embeds is None else (self.image_embeds,)
        tensors = itertools.chain(embeds, self.region_maps.values(), *self.prefix)
        return sum(tensor.nbytes for tensor in tensors) + sum(features.nbytes for features in self.region_features.values())


class ImageCache:
    """Encoded images by content, the least recently used first. The most recent one is kept whatever it takes."""

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._images: dict[Hashable, EncodedImage] = {}

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[EncodedImage]:
        return iter(self._images.values())

    def get(self, content_key: Hashable) -> EncodedImage:
        """Return the image of this key, an empty one when it is not cached; for the key None, an empty one that is not kept."""
        if content_key is None:
            return EncodedImage()
        image = self._images.pop(content_key, None) or EncodedImage(content_key)
        self._images[content_key] = image
        return image

    def evict(self) -> None:
        """Drop the least recently used images until the others fit into the budget."""
        sizes = {key: image.nbytes for key, image in self._images.items()}
        for key in list(sizes)[:-1]:
            if sum(sizes.values()) <= self.max_bytes:
                break
            del self._images[key], sizes[key]

    def clear(self) -> None:
        """Drop all images."""
        self._images.clear()


def content_key(frame: Frame) -> Hashable:
    """Return a key that is equal for frames of equal content: pixels, depth and camera."""
    depth = None if frame.depth is None else (_digest(frame.depth.values), frame.depth.kind)
    return _digest(np.asarray(frame.image)), depth, frame.camera


def _digest(array: np.ndarray) -> tuple[Any, ...]:
    return array.shape, array.dtype.str, hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()


@dataclass(frozen=True)
class EncodingRequest:
    """An image that questions are about, where its pixels come from, and the regions they mention."""

    image: EncodedImage
    read_frame: Callable[[], Frame]
    regions: list[Region]


class ImageEncoder:
    """Runs the vision side of a model: images and regions to vectors, and the language model on the start of prompts about images."""

    def __init__(self, model: Any, processor: Any):
        self.model, self.processor = model, processor

    @torch.inference_mode()
    def encode(self, requests: Sequence[EncodingRequest]) -> dict[str, Any]:
        """Compute the missing features of the images, and return ``image_embeds`` (I, P, D) and ``region_features`` of all requests.

        Frames are read a few at a time. Raises DataError for a frame or region that cannot be used.
        """
        together = IMAGES_PER_CPU_STEP if self.model.device.type == "cpu" else IMAGES_PER_STEP
        new = [request for request in requests if request.image.image_embeds is None]
        for start in range(0, len(new), together):
            self._encode_images(new[start : start + together])
        for request in requests:
            self._pool_new_regions(request)
        rows = [request.image.region_features[region] for request in requests for region in request.regions]
        embeds = [request.image.image_embeds for request in requests if request.image.image_embeds is not None]
        return {"image_embeds": torch.cat(embeds), "region_features": RegionFeatures.concatenate(rows)}

    def _encode_images(self, requests: Sequence[EncodingRequest]) -> None:
        """Encode images and their regions together. Region maps are dropped where they are not cached."""
        arrays = [self._prepare(request, request.regions) for request in requests]
        pixels, depth = (self._tensor([array[name] for array in arrays]) for name in ("pixel_values", "depth_values"))
        with_maps = any(request.regions or request.image.content_key is not None for request in requests)
        encoded = self.model.encode_images(pixels, depth, with_maps=with_maps)
        counts = [len(request.regions) for request in requests]
        pooled = RegionFeatures()
        if any(counts):
            masks, geometry = (self._tensor(np.concatenate([a[name] for a in arrays])) for name in ("region_masks", "region_geometry"))
            index = torch.arange(len(requests)).repeat_interleave(torch.tensor(counts)).to(self.model.device)
            pooled = self.model.pool_regions(encoded.region_maps, masks, index, geometry)
        first = 0
        for i, (request, count) in enumerate(zip(requests, counts, strict=True)):
            image = request.image
            image.image_embeds = encoded.image_embeds[i : i + 1].clone()
            if image.content_key is not None:
                image.region_maps = {kind: maps[i : i + 1].clone() for kind, maps in encoded.region_maps.items()}
            for row, region in enumerate(request.regions, first):
                image.region_features[region] = pooled[row : row + 1]
            first += count

    def _pool_new_regions(self, request: EncodingRequest) -> None:
        """Pool regions that a cached image was not asked about before."""
        image = request.image
        new = [region for region in request.regions if region not in image.region_features]
        if new:
            arrays = self._prepare(request, new)
            masks, geometry = (self._tensor(arrays[name]) for name in ("region_masks", "region_geometry"))
            pooled = self.model.pool_regions(image.region_maps, masks, region_geometry=geometry)
            image.region_features |= {region: pooled[i : i + 1] for i, region in enumerate(new)}

    def _prepare(self, request: EncodingRequest, regions: list[Region]) -> dict[str, np.ndarray]:
        frame = request.read_frame()
        return prepare_image(self.processor, frame, [frame.fit_region(f"region {index}", region) for index, region in enumerate(regions)])

    def _tensor(self, arrays: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(arrays)).to(self.model.device)

    @torch.inference_mode()
    def prefix_cache(self, images: Sequence[EncodedImage]) -> PrefixCache:
        """Return the prefix cache of prompts about these images, I in all; computed for images that have none."""
        new = [image for image in images if not image.prefix]
        computed = self.read_prefix(torch.cat([image.image_embeds for image in new if image.image_embeds is not None])) if new else []
        for i, image in enumerate(new):
            if image.content_key is not None or len(new) < len(images):
                image.prefix = [(keys[i : i + 1].clone(), values[i : i + 1].clone()) for keys, values in computed]
        return computed if len(new) == len(images) else _concatenated([image.prefix for image in images])

    @torch.inference_mode()
    def read_prefix(self, image_embeds: torch.Tensor | None) -> PrefixCache:
        """Run the language model on the common start of prompts about (I, P, D) images; for a model without images, I = 1."""
        most_rows = getattr(self.model, "most_rows", None)
        parts: Sequence[torch.Tensor | None] = [None] if image_embeds is None else image_embeds.split(most_rows or len(image_embeds))
        caches = []
        for embeds in parts:
            count = 1 if embeds is None else len(embeds)
            ids = torch.tensor([self.processor.prompt_start] * count, device=self.model.device)
            index = None if embeds is None else torch.arange(count, device=self.model.device)
            read = self.model.model(input_ids=ids, image_embeds=embeds, image_index=index, use_cache=True)
            caches.append([(layer.keys, layer.values) for layer in read.past_key_values.layers])
        return _concatenated(caches)


def _concatenated(caches: Sequence[PrefixCache]) -> PrefixCache:
    """Join caches of several images along I."""
    if len(caches) == 1:
        return caches[0]
    return [(torch.cat([cache[i][0] for cache in caches]), torch.cat([cache[i][1] for cache in caches])) for i in range(len(caches[0]))]
