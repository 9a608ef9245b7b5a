"""Inputs of a Predictor: the forms that users pass, the checks, and the types that the engine takes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smolrgpt.data.frame import Frame
from smolrgpt.schema import Camera, DataError, DepthFile, DepthMap, DepthMeaning, Region, TarMember
from smolrgpt.schema.image_file import image_from_array, read_upright
from smolrgpt.schema.inputs_read import InputsRead
from smolrgpt.tasks import Task

ImageLike = Path | TarMember | str | Image.Image | np.ndarray
DepthLike = Path | TarMember | str | Image.Image | np.ndarray | DepthFile | DepthMap
#: A Region or any form that ``Region.from_any`` takes: a box (x0, y0, x1, y1) in pixels, a mask (H, W), a mask image, run lengths, ...
RegionLike = Region | Sequence[float] | np.ndarray | Image.Image | Path | str | Mapping[str, Any]
#: A Camera or any form that ``Camera.from_any`` takes, such as fx, fy, cx, cy in pixels of the image.
CameraLike = Camera | Sequence[float] | np.ndarray | Mapping[str, Any] | Path | str


@dataclass(frozen=True)
class Question:
    """A question to the model.

    Attributes:
        text: with one ``<mask>`` per region.
        task: the kind of question, recognised from its words.
        input_ids: the prompt's token ids, as of ``SmolRGPTProcessor.encode_text``.
        regions: of each mention, in order.
        indices: of each mention, the region index that the caller passed; empty: mentions are numbered from 0.
        given_lengths: the lengths that the question gives, in metres, for models that take them as numbers.
    """

    text: str
    task: Task
    input_ids: list[int]
    regions: list[Region]
    indices: Sequence[int] = ()
    given_lengths: Sequence[float] = ()


@dataclass(eq=False)
class Inquiry:
    """One image and the questions about it, checked by ``Predictor.prepare`` and ready for ``Predictor.answer``.

    Attributes:
        questions: about the image.
        read_frame: returns the image with its depth and camera; it is called when the model has to encode them.
        regions: the caller's regions.
        inputs: how depth and camera were read, and what is doubtful; the same for all questions. An inquiry that reads its image only when
            it is encoded has it after that.
        min_confidence: the least confidence of answers, as of ``Predictor.ask_many``; None: what the checkpoint holds.
        content_key: equal for equal contents of the frame, whose encoding is then reused; None where it is not kept.
    """

    questions: list[Question]
    read_frame: Callable[[], Frame]
    regions: Sequence[Region] = ()
    content_key: Hashable = None
    inputs: InputsRead = field(default_factory=InputsRead)
    min_confidence: float | Mapping[str, float] | None = None


def as_upright(image: ImageLike) -> tuple[Image.Image, int]:
    """Convert a path, an image or an array as of ``image_from_array`` to 8-bit RGB, upright.

    Returns the image, and the EXIF orientation (1 to 8) of its stored pixels. Raises DataError, naming the file.
    """
    if isinstance(image, np.ndarray):
        return read_upright(image_from_array(image))
    if not isinstance(image, (Image.Image, str, Path, TarMember)):
        raise DataError(f"the image is a {type(image).__name__}; expected a path, an image or an array of uint8 (H, W, 3)")
    return read_upright(image)


def read_frame(image: ImageLike, depth: DepthLike | None, camera: CameraLike | None, meaning: DepthMeaning) -> Frame:
    """Read an image with its depth and camera, of the forms that users pass. Raises DataError for what cannot be read or does not fit."""
    rgb, orientation = as_upright(image)
    return Frame(
        rgb,
        None if depth is None else DepthMap.from_any(depth, meaning),
        None if camera is None else Camera.from_any(camera, rgb.height, rgb.width),
        orientation,
    )
