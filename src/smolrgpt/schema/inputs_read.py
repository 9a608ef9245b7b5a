"""InputsRead: how the inputs of an answer were read, and what is doubtful about them."""

from __future__ import annotations

from dataclasses import dataclass

from smolrgpt.schema.camera import Camera
from smolrgpt.schema.depth_map import DepthReading


@dataclass(frozen=True)
class InputsRead:
    """How depth and camera of an image were read, and what is doubtful about them or about the regions.

    Attributes:
        depth: How the depth map was read; None without depth.
        camera: The camera in use, given or guessed; None where there is none.
        warnings: A sentence each, without a full stop: the input, what was found and what to do. Empty where nothing is doubtful.
    """

    depth: DepthReading | None = None
    camera: Camera | None = None
    warnings: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return one line: how depth and camera were read."""
        depth = "none" if self.depth is None else self.depth.describe()
        camera = "none" if self.camera is None else self.camera.describe()
        return f"depth: {depth}; camera: {camera}"
