"""smolrgpt: answers questions about marked regions of an RGB-D image.

``from smolrgpt import Predictor`` is all that most users need. Names load when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smolrgpt.auto import register_on_first_use

if TYPE_CHECKING:
    from smolrgpt.inference.answer import Answer
    from smolrgpt.inference.predictor import Predictor
    from smolrgpt.schema import Camera, DepthMap, Region, Sample

__version__ = "0.1.0"
__all__ = ["Answer", "Camera", "DepthMap", "Predictor", "Region", "Sample", "__version__"]

_HOME = {
    "Answer": "smolrgpt.inference.answer",
    "Predictor": "smolrgpt.inference.predictor",
    "Camera": "smolrgpt.schema",
    "DepthMap": "smolrgpt.schema",
    "Region": "smolrgpt.schema",
    "Sample": "smolrgpt.schema",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'smolrgpt' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


register_on_first_use()
