"""A drawn scene: its objects, its image, its depth and its camera, whatever world it is of.

Scene coordinates: metres, z up, the supporting plane at z = 0. Camera coordinates: x right, y down, z forward (planar depth).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from smolrgpt.data.worlds.caster import project
from smolrgpt.data.worlds.layouts import Rect
from smolrgpt.schema import Camera, CameraPose, Region, SceneGraph, SceneObject

#: An object becomes a region when at least this many pixels show at 384x216, and this share of all it has.
MIN_PIXELS = 60
MIN_VISIBLE_FRACTION = 0.3
_AREA_TRIES = 4
_REFERENCE_PIXELS = 384 * 216
#: Kind -> the noun of the official questions.
NOUNS = {"pallet": "pallet", "buffer": "buffer region", "transporter": "transporter", "shelf": "shelf"}


@dataclass(eq=False)
class PlacedObject:
    """An object as it was drawn, such as a pallet with its cartons, a buffer region (height 0) or a mug.

    Attributes:
        kind: a key of ``NOUNS``: the part that the object plays in the official questions. A mug is a "pallet", what can be moved and
            counted; a rug is a "buffer", an area that others stand in.
        footprint: where it stands, seen from above.
        center_m: (3,) middle of the 3-D box in scene coordinates.
        size_m: length, width and height of the 3-D box.
        loaded: whether a transporter carries a load; None for other kinds.
        name: its class noun, by default that of its kind.
        digits: as of ``SceneObject``.
        buffer: index in ``Scene.objects`` of the buffer it stands in; None where it stands in none.
        is_tilted: whether it leans on another one, so that its box may overlap the other's.
        mask: bool (H, W), the visible part; a buffer's is the floor inside its outline.
        image_xy: the mask's centroid in pixels (column, row).
        visible_fraction: share of the object that the image shows.
        is_region: whether enough of it is visible to ask about it.
    """

    kind: str
    footprint: Rect
    center_m: np.ndarray
    size_m: tuple[float, float, float]
    loaded: bool | None = None
    name: str = ""
    digits: int = 0
    is_tilted: bool = False
    buffer: int | None = None
    mask: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))
    image_xy: tuple[float, float] = (0.0, 0.0)
    visible_fraction: float = 0.0
    is_region: bool = False

    @functools.cached_property
    def region(self) -> Region:
        """The mask as run lengths."""
        return Region.from_mask(self.mask)

    def to_scene_object(self) -> SceneObject:
        """Return the ``SceneObject`` that questions are made from."""
        return SceneObject(
            kind=self.kind,
            name=self.name or NOUNS[self.kind],
            region=self.region,
            image_xy=self.image_xy,
            center_m=self.center_m,
            size_m=self.size_m,
            yaw_rad=self.footprint.yaw,
            visible_fraction=self.visible_fraction,
            loaded=self.loaded,
            digits=self.digits,
        )


@dataclass(eq=False)
class Scene:
    """One drawn scene.

    Attributes:
        rgb: uint8 (H, W, 3).
        depth_m: float32 (H, W), planar depth in metres; NaN for the sky.
        instances: int16 (H, W), 1 + index in ``objects``, 0 elsewhere (for buffers, see their masks).
        objects: everything that was placed.
        camera: intrinsics of the image.
        pose: where the camera is.
        layout: the layout family.
        areas: rectangles drawn in the image, in which objects can be counted: x0, y0, x1, y1 in pixels.
        world: the kind of place.
        scale: the factor that all lengths were multiplied by.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    instances: np.ndarray
    objects: list[PlacedObject]
    camera: Camera
    pose: CameraPose
    layout: str
    areas: tuple[tuple[int, int, int, int], ...] = ()
    world: str = "warehouse"
    scale: float = 1.0

    @property
    def regions(self) -> list[PlacedObject]:
        """The objects visible enough to be asked about."""
        return [item for item in self.objects if item.is_region]

    def of_kind(self, kind: str) -> list[PlacedObject]:
        """Return the visible objects of a kind."""
        return [item for item in self.regions if item.kind == kind]

    @property
    def metadata(self) -> dict[str, Any]:
        """The layout family, and whatever differs from a warehouse of natural size."""
        differs = {"world": self.world, "scale": float(f"{self.scale:.4g}")} if (self.world, self.scale) != ("warehouse", 1.0) else {}
        return {"layout": self.layout, **differs}

    @functools.cached_property
    def graph(self) -> SceneGraph:
        """The visible objects, the camera and the floor, from which questions are made."""
        objects = tuple(item.to_scene_object() for item in self.regions)
        areas = tuple(_to_area(box, *self.depth_m.shape) for box in self.areas)
        return SceneGraph(objects, self.camera, self.pose, areas=areas)


def _to_area(box: tuple[int, int, int, int], height: int, width: int) -> SceneObject:
    x0, y0, x1, y1 = box
    middle = ((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2)
    region = Region.from_box(box, height, width)
    return SceneObject("buffer", "rectangle", region, middle, np.full(3, np.nan), (np.nan, np.nan, np.nan), drawn_box=box)


def draw_areas(objects: Sequence[PlacedObject], width: int, height: int, rng: np.random.Generator) -> tuple[tuple[int, int, int, int], ...]:
    """Draw at most two rectangles in the image round some of the objects: each object is clearly inside or clearly outside."""
    shown = [item for item in objects if item.is_region and item.kind in ("pallet", "transporter")]
    found: list[tuple[int, int, int, int]] = []
    for _ in range(_AREA_TRIES if shown else 0):
        picked = [shown[k] for k in rng.permutation(len(shown))[: int(rng.integers(1, 4))]]
        spread = np.array([[*item.mask.any(0).nonzero()[0][[0, -1]], *item.mask.any(1).nonzero()[0][[0, -1]]] for item in picked])
        pad = rng.uniform(0.0, 0.08, 4) * max(width, height)
        x0, x1 = max(0, int(spread[:, 0].min() - pad[0])), min(width, int(spread[:, 1].max() + pad[1]) + 1)
        y0, y1 = max(0, int(spread[:, 2].min() - pad[2])), min(height, int(spread[:, 3].max() + pad[3]) + 1)
        shares = np.array([np.count_nonzero(item.mask[y0:y1, x0:x1]) / np.count_nonzero(item.mask) for item in shown])
        x, y = np.array([item.image_xy for item in shown]).T
        depth_in = np.minimum(np.minimum(x - x0, x1 - x), np.minimum(y - y0, y1 - y))  # of the middles, in pixels
        margin = 0.02 * width
        if (((shares < 0.25) & (depth_in < -margin)) | ((shares > 0.8) & (depth_in > margin))).all() and (x1 - x0) * (
            y1 - y0
        ) < 0.7 * width * height:
            found.append((x0, y0, x1, y1))
        if len(found) == 2:
            break
    return tuple(found)


def scale_scene(scene: Scene, factor: float) -> Scene:
    """Return the same image of a scene whose lengths are multiplied by a factor."""
    objects = []
    for item in scene.objects:
        rect, (length, width, height) = item.footprint, item.size_m
        footprint = Rect(rect.x * factor, rect.y * factor, rect.yaw, rect.length * factor, rect.width * factor)
        size = (length * factor, width * factor, height * factor)
        objects.append(replace(item, footprint=footprint, center_m=item.center_m * factor, size_m=size, digits=3))
    pose = CameraPose(scene.pose.position * factor, scene.pose.axes)
    depth = (scene.depth_m * factor).astype(np.float32)
    return replace(scene, depth_m=depth, objects=objects, pose=pose, scale=scene.scale * factor)


def random_generator(*seed: int) -> np.random.Generator:
    """Return the project's generator for a path of non-negative seeds: the same numbers in every process."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(seed))))


def find_visible(
    objects: Sequence[PlacedObject], masks: Iterable[tuple[np.ndarray, int]], camera: Camera, pose: CameraPose, min_visible: float
) -> None:
    """Fill in masks, visible shares and image positions, and decide what becomes a region.

    masks: of each object, the bool (H, W) mask of what is visible, and the number of pixels that it would cover were it alone.
    """
    min_pixels = MIN_PIXELS * camera.width * camera.height / _REFERENCE_PIXELS
    for item, (mask, num_pixels) in zip(objects, masks, strict=True):
        item.mask, item.is_region, item.visible_fraction = mask, False, 0.0
        columns, rows = np.count_nonzero(item.mask, axis=0), np.count_nonzero(item.mask, axis=1)
        pixels = int(rows.sum())
        if pixels == 0:
            continue
        item.image_xy = float(columns @ np.arange(camera.width)) / pixels, float(rows @ np.arange(camera.height)) / pixels
        item.visible_fraction = pixels / max(num_pixels, 1) * _share_in_frame(item, camera, pose)
        column, row, depth = project(item.center_m, camera, pose)
        in_frame = bool(depth > 0 and 0 <= column < camera.width and 0 <= row < camera.height)
        item.is_region = in_frame and pixels >= min_pixels and item.visible_fraction >= min_visible


def _share_in_frame(item: PlacedObject, camera: Camera, pose: CameraPose) -> float:
    """Return the share of a grid of points through the object's box that the image holds."""
    steps = np.linspace(-0.45, 0.45, 5)
    length, width, height = item.size_m
    heights = steps * height + item.center_m[2] if height else np.zeros(1)
    u, v, h = (axis.ravel() for axis in np.meshgrid(steps * length, steps * width, heights))
    x, y, z = project(np.stack([*item.footprint.to_floor(u, v), h], axis=-1), camera, pose).T
    return float(((z > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)).mean())
