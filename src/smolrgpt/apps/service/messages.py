"""Requests and replies of the service: request bodies are validated, limited and turned into an ``AskRequest``. Needs no torch and no Ray.

Nothing is fetched: images come as data URLs or uploads, never as addresses or paths.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from smolrgpt.schema import brief

#: Formats of images, depth maps and masks; Pillow's other decoders are never run on files from clients.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
_NPY = b"\x93NUMPY"


class Refusal(Exception):  # noqa: N818 (a refusal is an HTTP reply, not an error of the program)
    """A request that is not answered: HTTP status, a message that names the remedy, seconds until another try makes sense."""

    def __init__(self, status: int, message: str, retry_after_s: int | None = None):
        super().__init__(status, message, retry_after_s)  # all of them, so that it can be pickled
        self.status, self.message, self.retry_after_s = status, message, retry_after_s


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

    regions: a region of JSON each (see ``RegionBody``), or the bytes of a mask image.
    """

    image: bytes
    questions: list[str]
    depth: bytes | None = None
    depth_near: Literal["dark", "bright"] = "dark"
    regions: list[dict[str, Any] | bytes] = field(default_factory=list)
    camera: dict[str, float] | None = None


@dataclass(frozen=True)
class Reply:
    """An engine's reply to an ``AskRequest``: answers (fields of ``smolrgpt.Answer``), or an error and its HTTP status.

    batch: questions that were answered together.
    """

    answers: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    status: int = 400
    batch: int = 0


# ----------------------------------------------------------------------------------------------------------------------- bodies
class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RegionBody(_Body):
    """A region of the image, in one of four forms."""

    box: list[float] | None = Field(default=None, min_length=4, max_length=4, description="x0, y0, x1, y1 in pixels of the image")
    polygon: list[float] | None = Field(default=None, min_length=6, description="x, y, x, y, ... in pixels of the image")
    rle: dict[str, Any] | None = Field(default=None, description='COCO run lengths {"size": [H, W], "counts": ...}')
    mask: str | None = Field(default=None, description="data URL of a mask image")

    @model_validator(mode="after")
    def _one_form(self) -> RegionBody:
        if len(self.model_fields_set) != 1 or any(getattr(self, name) is None for name in self.model_fields_set):
            raise ValueError("expected exactly one of box, polygon, rle, mask")
        return self


class CameraBody(_Body):
    """Intrinsics in pixels of the image, or of one of width x height."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int | None = None
    height: int | None = None


class SceneBody(_Body):
    """Depth, regions and camera of an image."""

    depth: str | None = Field(
        default=None, description="data URL: 8-bit grey (relative), 16-bit grey (millimetres), float TIFF or .npy (metres); the same view"
    )
    depth_near: Literal["dark", "bright"] = Field(default="dark", description="which end of a relative depth map is near")
    regions: list[RegionBody] = Field(default_factory=list, description="the first one is <region 0>")
    camera: CameraBody | None = None


class AskBody(SceneBody):
    """One image and questions about it."""

    image: str = Field(description="data URL of the image")
    questions: list[str] = Field(min_length=1, description="regions are written as <region 0>, <region 1>, ...")


class AnswerBody(BaseModel):
    """One answer; see ``smolrgpt.Answer``."""

    question: str
    answer: str
    normalized_answer: str | int | float | None = Field(description="left or right, a count, a region's number, metres, or null")
    category: str
    confidence: float = Field(ge=0, le=1)


class AnswersBody(BaseModel):
    """Answers in the order of the questions."""

    id: str = Field(description="the request's id, also in the header x-request-id")
    model: str
    answers: list[AnswerBody]
    seconds: float


class _Loose(BaseModel):
    """The fields of OpenAI's bodies that are used here; others, such as a temperature, are ignored."""

    model_config = ConfigDict(extra="ignore")


class ImageUrl(_Loose):
    """OpenAI's reference to an image; a data URL."""

    url: str


class ContentPart(_Loose):
    """OpenAI's part of a message: text or an image."""

    type: str
    text: str | None = None
    image_url: ImageUrl | None = None


class ChatMessage(_Loose):
    """OpenAI's chat message."""

    role: str
    content: str | list[ContentPart] | None = None


class ChatBody(_Loose):
    """OpenAI's chat completion request: the last user message is the question, about the last image; ``spatial`` has the rest.

    Answers end by themselves and are greedy: sampling parameters and token limits are accepted and change nothing.
    """

    model: str = ""
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    n: int | None = None
    tools: list[Any] | None = None
    spatial: SceneBody = SceneBody()


B = TypeVar("B", bound=BaseModel)


def parse(body: bytes, kind: type[B]) -> B:
    """Parse JSON into one of the bodies. Raises Refusal 400 naming the first wrong field."""
    try:
        return kind.model_validate(json.loads(body))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from error
    except ValidationError as error:
        raise Refusal(400, _first(error)) from error


def _first(error: ValidationError) -> str:
    first, *rest = error.errors(include_url=False)
    location = ".".join(map(str, first["loc"])) or "the body"
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{location}: {first['msg']}, found {brief(repr(first.get('input')))}{more}"


# ------------------------------------------------------------------------------------------------------------------------- asks
def request_from_json(body: AskBody, limits: Limits) -> AskRequest:
    """Turn a JSON body into an AskRequest. Raises Refusal for malformed data URLs and requests beyond the limits."""
    return check_limits(AskRequest(image=decode_data_url(body.image, "image"), questions=body.questions, **_scene(body)), limits)


def request_from_chat(body: ChatBody, limits: Limits) -> AskRequest:
    """Turn a chat into an AskRequest.

    Raises the same errors as ``request_from_json``, and Refusal for features of the protocol that are not supported.
    """
    if body.n not in (None, 1):
        raise Refusal(400, f"n is {body.n}: answers are greedy, so there is one; leave n out")
    if body.tools:
        raise Refusal(400, "tools: this model calls none; leave them out")
    users = [message for message in body.messages if message.role == "user"]
    if not users:
        raise Refusal(400, "messages: none is of role user; the last of those is the question")
    images = [part.image_url.url for message in users for part in _parts(message) if part.image_url is not None]
    if not images:
        raise Refusal(400, 'messages: no image; put {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}} into one')
    if sum(part.image_url is not None for part in _parts(users[-1])) > 1:
        raise Refusal(400, "messages: two images in one message; depth goes to spatial.depth, masks to spatial.regions")
    question = "\n".join(part.text for part in _parts(users[-1]) if part.text is not None).strip()
    return check_limits(AskRequest(image=decode_data_url(images[-1], "image_url"), questions=[question], **_scene(body.spatial)), limits)


def _parts(message: ChatMessage) -> Sequence[ContentPart]:
    content = message.content or []
    return [ContentPart(type="text", text=content)] if isinstance(content, str) else content


def _scene(body: SceneBody) -> dict[str, Any]:
    return {
        "depth": None if body.depth is None else decode_data_url(body.depth, "depth"),
        "depth_near": body.depth_near,
        "regions": [_region(region, number) for number, region in enumerate(body.regions)],
        "camera": None if body.camera is None else body.camera.model_dump(exclude_none=True),
    }


def _region(region: RegionBody, number: int) -> dict[str, Any] | bytes:
    return region.model_dump(exclude_none=True) if region.mask is None else decode_data_url(region.mask, f"regions.{number}.mask")


def request_from_form(fields: Mapping[str, Sequence[str]], files: Mapping[str, Sequence[bytes]], limits: Limits) -> AskRequest:
    """Turn an upload (multipart/form-data) into an AskRequest.

    Files: image, depth and mask (repeated; masks come before other regions). Fields: question (repeated), depth_near, and regions and
    camera as JSON. Raises Refusal.
    """
    known = {"question", "depth_near", "regions", "camera"}, {"image", "depth", "mask"}
    for given, names, kind in zip((fields, files), known, ("field", "file"), strict=True):
        strange = sorted(set(given) - names)
        if strange:
            raise Refusal(400, f"there is no {kind} {strange[0]!r}; expected of {', '.join(sorted(names))}")
    if len(files.get("image", ())) != 1 or len(files.get("depth", ())) > 1:
        raise Refusal(400, "expected one file 'image', and at most one 'depth'")
    scene = {name: _json(fields[name][-1], name) for name in ("regions", "camera") if name in fields}
    scene |= {"depth_near": fields["depth_near"][-1]} if "depth_near" in fields else {}
    body = parse(json.dumps(scene).encode(), SceneBody)
    given = _scene(body)
    given |= {"depth": next(iter(files.get("depth", ())), None), "regions": [*files.get("mask", ()), *given["regions"]]}
    if not fields.get("question"):
        raise Refusal(400, "expected at least one field 'question'")
    return check_limits(AskRequest(image=files["image"][0], questions=list(fields["question"]), **given), limits)


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"field {name} is not JSON: {error}") from error


def decode_data_url(url: str, name: str) -> bytes:
    """Decode the bytes of ``data:...;base64,...``. Raises Refusal."""
    head, comma, data = url.partition(",")
    if not head.startswith("data:") or not comma:
        raise Refusal(400, f"{name}: expected a data URL (data:image/png;base64,...), found {brief(repr(url))}; addresses are not fetched")
    if not head.endswith(";base64"):
        raise Refusal(400, f"{name}: expected base64 in the data URL, found {brief(repr(head))}")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, f"{name}: the data URL is not base64 ({error})") from error


# ----------------------------------------------------------------------------------------------------------------------- limits
def check_limits(ask: AskRequest, limits: Limits) -> AskRequest:
    """Check a request against the limits by file headers, before anything is decoded, and return it. Raises Refusal 413 or 400."""
    if len(ask.regions) > limits.max_regions:
        raise Refusal(413, f"{len(ask.regions)} regions; this service takes {limits.max_regions}")
    if len(ask.questions) > limits.max_questions:
        raise Refusal(413, f"{len(ask.questions)} questions; this service takes {limits.max_questions} a request")
    longest = max(map(len, ask.questions))
    if longest > limits.max_question_characters:
        raise Refusal(413, f"a question of {longest} characters; this service takes {limits.max_question_characters}")
    files = {"image": ask.image, "depth": ask.depth}
    files |= {f"region {number}": region for number, region in enumerate(ask.regions) if isinstance(region, bytes)}
    for name, data in files.items():
        if data is not None:
            width, height = _size(data, name)
            _check_pixels(name, width, height, limits)
    for number, region in enumerate(ask.regions):
        size = region.get("rle", {}).get("size") if isinstance(region, dict) else None
        if isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(side, int) for side in size):
            _check_pixels(f"region {number}", size[1], size[0], limits)
    return ask


def _check_pixels(name: str, width: int, height: int, limits: Limits) -> None:
    if width * height > 1e6 * limits.max_megapixels:
        raise Refusal(413, f"{name}: {width}x{height} pixels; this service takes {limits.max_megapixels:g} megapixels, scale it down first")


def _size(data: bytes, name: str) -> tuple[int, int]:
    """Read (width, height) from the header of a file. Raises Refusal."""
    try:
        if data.startswith(_NPY):
            height, width, *_ = (*_npy_shape(data), 1, 1)
            return int(width), int(height)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
                return image.size
    except Image.DecompressionBombError as error:
        raise Refusal(413, f"{name}: {error}") from error
    except Exception as error:  # decoders raise many kinds of errors on hostile bytes; whatever they raise, this is no image
        raise Refusal(400, f"{name}: not an image ({brief(repr(data[:16]))}); expected {', '.join(IMAGE_FORMATS)}") from error


def _npy_shape(data: bytes) -> tuple[int, ...]:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    shape, _, dtype = (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    if dtype.hasobject:
        raise ValueError("an array of objects")
    return shape
