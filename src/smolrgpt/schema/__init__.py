"""The data types that all parts of the project share. No module here imports torch or anything else of smolrgpt."""

from smolrgpt.schema.answer import Answer
from smolrgpt.schema.camera import Camera
from smolrgpt.schema.depth_map import DepthFile, DepthMap
from smolrgpt.schema.depth_meaning import DepthKind, DepthMeaning, DepthOptions, Polarity
from smolrgpt.schema.errors import DataError, brief, naming
from smolrgpt.schema.region import Region
from smolrgpt.schema.sample import REGION_PLACEHOLDER, Sample, Wording
from smolrgpt.schema.scene_graph import CameraPose, SceneGraph, SceneObject
from smolrgpt.schema.tar_member import TarMember
from smolrgpt.schema.truth import Truth

__all__ = [
    "REGION_PLACEHOLDER",
    "Answer",
    "Camera",
    "CameraPose",
    "DataError",
    "DepthFile",
    "DepthKind",
    "DepthMap",
    "DepthMeaning",
    "DepthOptions",
    "Polarity",
    "Region",
    "Sample",
    "SceneGraph",
    "SceneObject",
    "TarMember",
    "Truth",
    "Wording",
    "brief",
    "naming",
]
