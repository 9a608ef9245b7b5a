"""The synthetic warehouse: scenes, their rows and a writer. Deterministic by seed, numpy only."""

from smolrgpt.data.worlds.layouts import KNOWN_LAYOUTS, LAYOUTS, RESERVED_LAYOUTS, resolve_layouts
from smolrgpt.data.worlds.rows import scene_samples, to_samples
from smolrgpt.data.worlds.scene import PlacedObject, Scene, generate_scene, random_generator
from smolrgpt.data.worlds.writer import write_dataset

__all__ = [
    "KNOWN_LAYOUTS",
    "LAYOUTS",
    "RESERVED_LAYOUTS",
    "PlacedObject",
    "Scene",
    "generate_scene",
    "random_generator",
    "resolve_layouts",
    "scene_samples",
    "to_samples",
    "write_dataset",
]
