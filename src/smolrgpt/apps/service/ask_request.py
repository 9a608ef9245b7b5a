"""Turn request bodies into an ``AskRequest``, within the limits. Needs no torch and no Ray.

Nothing is fetched: images come as data URLs or uploads, never as addresses or paths.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from smolrgpt.apps.service.bodies import AskBody, ChatBody, SceneBody, parse_json, validate
from smolrgpt.apps.service.messages import IMAGE_FORMATS, AskRequest, Limits, Refusal
from smolrgpt.schema import brief
from smolrgpt.schema.depth_file import DEPTH_FORMATS
from smolrgpt.schema.errors import suggest_name

_NPY = b"\x93NUMPY"
_NOT_OF_PILLOW = ("NPY", "NPZ", "EXR")
#: How .npz and EXR files begin: the engine, which reads them, holds the limit, since their sizes are inside.
_CHECKED_LATER = (b"PK\x03\x04", b"v/1\x01")
_FORM_FILES = ("image", "depth", "mask")
_FORM_FIELDS = ("question", *(name for name in SceneBody.model_fields if name not in _FORM_FILES))


def request_from_json(body: AskBody, limits: Limits) -> AskRequest:
    """Turn a JSON body into an AskRequest. Raises Refusal for malformed data URLs and requests beyond the limits."""
    return check_limits(AskRequest(image=decode_data_url(body.image, "image"), questions=body.questions, **_scene(body)), limits)


def request_from_chat(body: ChatBody, limits: Limits) -> AskRequest:
    """Turn a chat into an AskRequest.

    Raises the same errors as ``request_from_json``, and Refusal for a chat without a question or an image.
    """
    users = [number for number, message in enumerate(body.messages) if message.role == "user"]
    if not users:
        raise Refusal(400, "messages: none is of role user; the last of those is the question", "messages")
    images = [
        (number, f"messages.{number}.content.{place}.image_url.url", part.image_url.url)
        for number in users
        for place, part in enumerate(body.messages[number].content)
        if part.image_url is not None
    ]
    if not images:
        form = '{"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}'
        raise Refusal(400, f"messages: no image; put {form} into the content of one of role user", "messages")
    last, name, url = images[-1]
    if [number for number, *_ in images].count(last) > 1:
        advice = "two images in one message; depth goes to spatial.depth, masks to spatial.regions"
        raise Refusal(400, f"messages.{last}.content: {advice}", f"messages.{last}.content")
    question = "\n".join(part.text for part in body.messages[users[-1]].content if part.text is not None).strip()
    scene = _scene(body.spatial or SceneBody(), "spatial.")
    return check_limits(AskRequest(image=decode_data_url(url, name), questions=[question], **scene), limits)


def _scene(body: SceneBody, prefix: str = "") -> dict[str, Any]:
    return {
        "depth": None if body.depth is None else decode_data_url(body.depth, f"{prefix}depth"),
        "depth_options": body.depth_options,
        "regions": [_region(region, f"{prefix}regions.{number}") for number, region in enumerate(body.regions)],
        "camera": body.camera,
        "min_confidence": body.min_confidence,
    }


def _region(region: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a region whose mask image is decoded from its data URL; other forms are read by the engine."""
    mask = region.get("mask")
    return {**region, "mask": decode_data_url(mask, f"{name}.mask")} if isinstance(mask, str) else region


def request_from_form(fields: Mapping[str, Sequence[str]], files: Mapping[str, Sequence[bytes]], limits: Limits) -> AskRequest:
    """Turn an upload (multipart/form-data) into an AskRequest.

    Files: image, depth and mask (repeated; masks come before other regions). Fields: question (repeated), and those of ``SceneBody``,
    of which regions are JSON. Raises Refusal.
    """
    for given, names, kind in ((fields, _FORM_FIELDS, "field"), (files, _FORM_FILES, "file")):
        for name in given:
            if name not in names:
                other = (kind == "field" and name in _FORM_FILES) or (kind == "file" and name in _FORM_FIELDS)
                advice = f"send it as a {'file' if kind == 'field' else 'field'}" if other else suggest_name(name, names)
                raise Refusal(400, f"{brief(name)}: there is no {kind} of this name; {advice}", brief(name))
    for name, values in {**fields, **files}.items():
        if name not in ("question", "mask") and len(values) > 1:
            raise Refusal(400, f"{name}: given {len(values)} times; expected one", name)
    for name, given in (("image", files), ("question", fields)):
        if name not in given:
            raise Refusal(400, f"{name}: it is missing; expected a {'file' if given is files else 'field'} of this name", name)
    scene = {name: values[0] for name, values in fields.items() if name != "question"}
    if "regions" in scene:
        scene["regions"] = parse_json(scene["regions"], "regions")
    given_scene = _scene(validate(scene, SceneBody))
    given_scene |= {
        "depth": next(iter(files.get("depth", ())), None),
        "regions": [*({"mask": mask} for mask in files.get("mask", ())), *given_scene["regions"]],
    }
    return check_limits(AskRequest(image=files["image"][0], questions=list(fields["question"]), **given_scene), limits)


def decode_data_url(url: str, name: str) -> bytes:
    """Decode the bytes of ``data:...;base64,...``. Raises Refusal."""
    head, comma, data = url.partition(",")
    if not head.lower().startswith("data:") or not comma:
        expected = "expected a data URL (data:image/png;base64,...)"
        raise Refusal(400, f"{name}: {expected}, found {brief(repr(url))}; addresses are not fetched", name)
    if not head.lower().endswith(";base64"):
        raise Refusal(400, f"{name}: expected base64 in the data URL, found {brief(repr(head))}", name)
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, f"{name}: the data URL is not base64 ({error})", name) from error


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
    _check_file("image", ask.image, limits)
    if ask.depth is not None and not ask.depth.startswith(_CHECKED_LATER):
        _check_file("depth", ask.depth, limits, DEPTH_FORMATS)
    for number, region in enumerate(ask.regions):
        if isinstance(region.get("mask"), bytes):
            _check_file(f"region {number}", region["mask"], limits)
    for number, region in enumerate(ask.regions):
        for height, width in _mask_sizes(region):
            _check_pixels(f"region {number}", width, height, limits)
    return ask


def _mask_sizes(value: Any) -> Iterator[tuple[float, float]]:
    """Yield (height, width) of all run lengths within a region's JSON."""
    if isinstance(value, Mapping):
        with contextlib.suppress(KeyError, TypeError, ValueError):  # what is no size is refused by the engine
            height, width = map(float, value["size"])
            yield height, width
        for part in value.values():
            yield from _mask_sizes(part)


def _check_file(name: str, data: bytes, limits: Limits, formats: Sequence[str] = IMAGE_FORMATS) -> None:
    """Check the size in the header of a file. Raises Refusal."""
    _check_pixels(name, *_size(data, name, formats), limits)


def _check_pixels(name: str, width: float, height: float, limits: Limits) -> None:
    if width * height > 1e6 * limits.max_megapixels:
        raise Refusal(413, f"{name}: {width}x{height} pixels; this service takes {limits.max_megapixels:g} megapixels, scale it down first")


def _size(data: bytes, name: str, formats: Sequence[str]) -> tuple[int, int]:
    """Read (width, height) from the header of a file. Raises Refusal."""
    try:
        if data.startswith(_NPY) and "NPY" in formats:
            height, width, *_ = (*_npy_shape(data), 1, 1)
            return int(width), int(height)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[name for name in formats if name not in _NOT_OF_PILLOW]) as image:
                return image.size
    except Image.DecompressionBombError as error:
        raise Refusal(413, f"{name}: {error}") from error
    except Exception as error:  # decoders raise many kinds of errors on hostile bytes; whatever they raise, this is no image
        raise Refusal(400, f"{name}: not an image ({brief(repr(data[:16]))}); expected {', '.join(formats)}", name) from error


def _npy_shape(data: bytes) -> tuple[int, ...]:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    shape, _, dtype = (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    if dtype.hasobject:
        raise ValueError("an array of objects")
    return shape
