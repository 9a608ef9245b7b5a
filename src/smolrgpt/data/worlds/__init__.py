"""The synthetic warehouse: scenes, questions and a writer. Deterministic by seed, numpy only."""

from smolrgpt.data.worlds.layouts import KNOWN_LAYOUTS, LAYOUTS, RESERVED_LAYOUTS, resolve_layouts
from smolrgpt.data.worlds.questions import Question, scene_questions, scene_samples
from smolrgpt.data.worlds.scene import Scene, SceneObject, generate_scene, random_generator
from smolrgpt.data.worlds.writer import write_dataset

__all__ = [
    "KNOWN_LAYOUTS",
    "LAYOUTS",
    "RESERVED_LAYOUTS",
    "Question",
    "Scene",
    "SceneObject",
    "generate_scene",
    "random_generator",
    "resolve_layouts",
    "scene_questions",
    "scene_samples",
    "write_dataset",
]
