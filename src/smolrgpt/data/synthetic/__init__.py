"""The synthetic warehouse: scenes, questions and a writer. Deterministic by seed, numpy only."""

from smolrgpt.data.synthetic.layouts import KNOWN_LAYOUTS, LAYOUTS, RESERVED_LAYOUTS, resolve_layouts
from smolrgpt.data.synthetic.questions import Question, scene_questions, scene_samples
from smolrgpt.data.synthetic.scene import Scene, SceneObject, generate_scene, random_generator
from smolrgpt.data.synthetic.writer import write_dataset

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
