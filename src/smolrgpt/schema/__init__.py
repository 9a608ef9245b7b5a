"""The nouns that every part of the project shares. Nothing here imports torch or anything else of smolrgpt."""

from smolrgpt.schema.answer import Answer
from smolrgpt.schema.camera import Camera
from smolrgpt.schema.depth_map import DepthKind, DepthMap, Polarity
from smolrgpt.schema.errors import DataError, brief, naming
from smolrgpt.schema.region import Region
from smolrgpt.schema.sample import REGION_PLACEHOLDER, Sample
from smolrgpt.schema.scene_graph import CameraPose, SceneGraph, SceneObject
from smolrgpt.schema.tar_member import TarMember

__all__ = [
    "REGION_PLACEHOLDER",
    "Answer",
    "Camera",
    "CameraPose",
    "DataError",
    "DepthKind",
    "DepthMap",
    "Polarity",
    "Region",
    "Sample",
    "SceneGraph",
    "SceneObject",
    "TarMember",
    "brief",
    "naming",
]
