"""Synthetic worlds: scenes, their rows and a writer. Deterministic by seed, numpy only."""

from smolrgpt.data.worlds.generate import WORLDS, generate_scene, resolve_layouts, world_of
from smolrgpt.data.worlds.layouts import KNOWN_LAYOUTS, LAYOUTS, RESERVED_LAYOUTS
from smolrgpt.data.worlds.rows import scene_samples, to_samples
from smolrgpt.data.worlds.scene import PlacedObject, Scene, random_generator, scale_scene
from smolrgpt.data.worlds.writer import write_dataset

__all__ = [
    "KNOWN_LAYOUTS",
    "LAYOUTS",
    "RESERVED_LAYOUTS",
    "WORLDS",
    "PlacedObject",
    "Scene",
    "generate_scene",
    "random_generator",
    "resolve_layouts",
    "scale_scene",
    "scene_samples",
    "to_samples",
    "world_of",
    "write_dataset",
]
