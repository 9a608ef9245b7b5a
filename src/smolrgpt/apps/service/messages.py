"""Messages between the service's HTTP side and its engines: ``AskRequest``, ``Reply`` and ``Refusal``; their ``Limits``. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from smolrgpt.schema import DepthOptions

#: Formats of images and masks; Pillow's other decoders are never run on files from clients. Depth files have ``DEPTH_FORMATS``.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")


class Refusal(Exception):  # noqa: N818 (a refusal is an HTTP reply, not an error of the program)
    """A request that is not answered.

    Attributes:
        status: Of the HTTP reply.
        message: Names the remedy.
        param: The field of the request that is at fault, such as ``spatial.regions.0``, where it is one.
        code: OpenAI's name of the fault, where clients tell faults apart by it.
        retry_after_s: Seconds until another try makes sense.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None, retry_after_s: int | None = None):
        super().__init__(status, message, param, code, retry_after_s)  # all of them, so that it can be pickled
        self.status, self.message, self.param, self.code, self.retry_after_s = status, message, param, code, retry_after_s


@dataclass(frozen=True)
class Limits:
    """Limits of one request.

    max_body_mb: in 10^6 bytes; max_megapixels: of each image, depth map and mask; max_queue: requests being read or answered at once;
    timeout_s: from the first byte to the answer.
    """

    max_body_mb: float = 32.0
    max_megapixels: float = 25.0
    max_regions: int = 64
    max_questions: int = 32
    max_question_characters: int = 2000
    max_queue: int = 256
    timeout_s: float = 60.0


@dataclass(frozen=True)
class AskRequest:
    """One image and its questions, as engines take them; files are still encoded, and within the limits by their headers.

    Attributes:
        image: An encoded image.
        questions: About it, at least one.
        depth: A depth file.
        depth_options: What its values mean.
        regions: JSON as of ``Region.from_json``; the mask of {"mask": ...} is an encoded image.
        min_confidence: The least confidence of an answer, as of ``Predictor.ask_many``.
        camera: JSON as of ``Camera.from_any``; no text, which may name a file.
    """

    image: bytes
    questions: list[str]
    depth: bytes | None = None
    depth_options: DepthOptions = field(default_factory=DepthOptions)
    regions: list[dict[str, Any]] = field(default_factory=list)
    camera: Any = None
    min_confidence: float | None = None


@dataclass(frozen=True)
class Reply:
    """An engine's reply to an ``AskRequest``: answers (fields of ``smolrgpt.Answer``), or an error and its HTTP status.

    batch: questions that were answered together.
    """

    answers: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    status: int = 400
    batch: int = 0
