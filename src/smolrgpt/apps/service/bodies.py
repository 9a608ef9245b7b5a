"""Bodies of the service's requests and replies, and ``parse``, which names the field that is wrong.

A field that is not known is refused, with the nearest known name: a field that is dropped in silence changes the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from smolrgpt.apps.service.messages import Refusal
from smolrgpt.schema import DataError, DepthMeaning, DepthOptions, Polarity, brief
from smolrgpt.schema.camera_forms import parse_text
from smolrgpt.schema.depth_meaning import DEPTH_UNITS, StoredKind
from smolrgpt.schema.errors import suggest_name
from smolrgpt.schema.inputs_read import InputsRead

#: Fields of OpenAI's requests that are accepted and change nothing: decoding is greedy, answers end by themselves, nothing is stored.
IGNORED_FIELDS = (
    *("frequency_penalty", "logit_bias", "max_completion_tokens", "max_tokens", "metadata", "parallel_tool_calls", "presence_penalty"),
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning_effort", "safety_identifier", "seed"),
    *("service_tier", "stop", "store", "temperature", "top_p", "user", "verbosity"),
)
#: Fields of OpenAI's requests that would change the reply: the values that leave it as it is, and what to do instead of others.
UNSUPPORTED_FIELDS: dict[str, tuple[tuple[Any, ...], str]] = {
    "audio": ((), "answers are text; leave it out"),
    "function_call": (("none", "auto"), "this model calls no functions; leave it out"),
    "functions": (([],), "this model calls no functions; leave them out"),
    "logprobs": ((False,), "there are none by token; leave it out and read message.spatial.confidence, the probability of the answer"),
    "modalities": ((["text"],), "answers are text; leave it out"),
    "moderation": ((), "nothing is moderated here; leave it out"),
    "n": ((1,), "answers are greedy, so there is one; leave it out"),
    "prediction": ((), "answers are not predicted; leave it out"),
    "response_format": (
        ({"type": "text"},),
        "answers are plain text; leave it out and read message.spatial, which has the short answer as JSON",
    ),
    "tool_choice": (("none", "auto"), "this model calls no tools; leave it out"),
    "tools": (([],), "this model calls no tools; leave them out"),
    "top_logprobs": ((0,), "there are none by token; leave it out and read message.spatial.confidence, the probability of the answer"),
    "web_search_options": ((), "nothing is searched; leave it out"),
}
#: Kinds of errors whose message has it all; others are followed by the value that was found.
_COMPLETE = ("fault", "missing")


def _fault(message: str, field: str | None = None) -> PydanticCustomError:
    """Return the error of an object, or of one field of it, whose message needs no addition."""
    return PydanticCustomError(_COMPLETE[0], "{message}", {"message": message} | ({} if field is None else {"field": field}))


class _Body(BaseModel):
    """A JSON object of known fields.

    Attributes:
        accepted: Names of further fields, which change nothing or are checked elsewhere.
        elsewhere: What to do about fields that belong to another object.
    """

    model_config = ConfigDict(extra="forbid")
    accepted: ClassVar[tuple[str, ...]] = ()
    elsewhere: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            names = [name for name, info in cls.model_fields.items() if info.is_required()] or list(cls.model_fields)
            form = ", ".join(f'"{name}": ...' for name in names)
            raise PydanticCustomError("expected", "expected {form}", {"form": f"{{{form}}}"})
        known = {*cls.model_fields, *cls.accepted}
        advice = {
            name: cls.elsewhere.get(name) or f"there is no such field here; {suggest_name(name, known, cls.model_fields)}"
            for name in value
            if name not in known
        }
        if advice:
            first, *others = advice
            more = "".join(f"; {brief(name)}: {advice[name]}" for name in others[:3])
            raise _fault(advice[first] + more, first)
        return {name: content for name, content in value.items() if name not in cls.accepted}


# --------------------------------------------------------------------------------------------------------------------- requests
class SceneBody(_Body):
    """Depth, regions and camera of an image."""

    depth: str | None = Field(
        default=None,
        description="data URL of a depth file of the same view: 8-bit grey (relative), 16-bit grey (millimetres), float (metres)",
    )
    depth_unit: Any = Field(default=None, description=f"metres per stored unit: a number, 1/5000, or {', '.join(DEPTH_UNITS)}")
    depth_kind: StoredKind | None = Field(default=None, description="what the depth values are; inverse: proportional to 1 / depth")
    depth_near: Polarity | None = Field(default=None, description="which end of a relative depth map is near; dark by default")
    regions: list[dict[str, Any]] = Field(
        default_factory=list,
        description='the first one is <region 0>: {"box": [x0, y0, x1, y1]} or {"polygon": [x, y, ...]} in pixels of the image, '
        '{"rle": COCO run lengths}, {"mask": data URL of a mask image}, or another form of smolrgpt.Region.from_json',
    )
    camera: Any = Field(
        default=None,
        description='{"fx", "fy", "cx", "cy"} in pixels of the image, or another form of Camera.from_any, also as text',
    )

    min_confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="answers of less confidence are withheld (cannot_tell); 0: never; by default as the model says",
    )

    @model_validator(mode="after")
    def _check_depth(self) -> SceneBody:
        try:
            DepthMeaning.from_options(**self.depth_options)
        except DataError as error:
            is_unit = not self.depth_kind or str(error).startswith("depth unit")
            raise _fault(str(error), "depth_unit" if is_unit else "depth_kind") from error
        return self

    @property
    def depth_options(self) -> DepthOptions:
        """What is stated of the depth values."""
        return {"depth_unit": self.depth_unit, "depth_kind": self.depth_kind, "depth_near": self.depth_near}

    @field_validator("camera")
    @classmethod
    def _read_text(cls, camera: Any) -> Any:
        """Parse text here, so that none reaches the readers, to whom it may be the name of a file."""
        try:
            return parse_text(camera) if isinstance(camera, str) else camera
        except DataError as error:
            raise _fault(str(error).removeprefix("camera ")) from error


class AskBody(SceneBody):
    """One image and questions about it."""

    image: str = Field(description="data URL of the image")
    questions: list[str] = Field(min_length=1, description="regions are written as <region 0>, <region 1>, ...")

    elsewhere = {
        "messages": "belongs to /v1/chat/completions; expected image and questions here",
        "spatial": f"belongs to /v1/chat/completions; its fields ({', '.join(SceneBody.model_fields)}) stand at the top level here",
    }


class ImageUrl(_Body):
    """OpenAI's reference to an image."""

    url: str = Field(description="a data URL; addresses are not fetched")
    accepted = ("detail",)


class ContentPart(_Body):
    """OpenAI's part of a message: text or an image."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageUrl | None = None
    accepted = ("cache_control", "prompt_cache_breakpoint")

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_types(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "type" in value and value["type"] not in ("text", "image_url"):
            raise _fault(f"expected 'text' or 'image_url', found {brief(repr(value['type']))}; this model reads nothing else", "type")
        return value

    @model_validator(mode="after")
    def _as_its_type(self) -> ContentPart:
        other = "image_url" if self.type == "text" else "text"
        if getattr(self, self.type) is None or getattr(self, other) is not None:
            raise _fault(f"a part of type {self.type} has the field {self.type}, and no other")
        return self


class ChatMessage(_Body):
    """OpenAI's chat message; content: a text, or parts. Only those of role user are read."""

    role: Literal["user", "assistant", "system", "developer", "tool", "function"]
    content: list[ContentPart] = Field(default_factory=list)
    accepted = ("name",)
    elsewhere = {"spatial": "belongs to the top level, next to messages"}

    @model_validator(mode="before")
    @classmethod
    def _read_users(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or "role" not in value:
            return value
        return {"content": None, **value} if value["role"] == "user" else {"role": value["role"]}

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, content: Any) -> Any:
        if isinstance(content, str):
            return [{"type": "text", "text": content}]
        if not isinstance(content, list):
            raise PydanticCustomError("expected", "expected a text or a list of parts")
        return content


class StreamOptions(_Body):
    """OpenAI's options of a stream."""

    include_usage: bool | None = None
    accepted = ("include_obfuscation",)


class ChatBody(_Body):
    """OpenAI's chat completion request: the last user message is the question, about the last image; ``spatial`` has the rest.

    Messages of other roles are not read. Answers end by themselves and are greedy: sampling parameters and token limits are accepted and
    change nothing. Whatever would change the reply's form, such as ``response_format``, is refused.
    """

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})

    model: str | None = Field(default=None, description="the name of /v1/models, or nothing")
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    spatial: SceneBody | None = None

    accepted = IGNORED_FIELDS
    elsewhere = {
        **dict.fromkeys(SceneBody.model_fields, "belongs into spatial"),
        **dict.fromkeys(("image", "images", "image_url"), 'belongs into messages, as {"type": "image_url", "image_url": {"url": ...}}'),
        **dict.fromkeys(("question", "questions", "prompt"), "belongs into messages, as the content of the last one of role user"),
    }

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported_fields(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        for name, (neutral, advice) in UNSUPPORTED_FIELDS.items():
            if value.get(name) is not None and value[name] not in neutral:
                raise _fault(f"{advice} (found {brief(json.dumps(value[name]))})", name)
        if value.get("stream_options") is not None and not value.get("stream"):
            raise _fault("only a stream has options; set stream too, or leave them out", "stream_options")
        return {name: content for name, content in value.items() if name not in UNSUPPORTED_FIELDS}


# ---------------------------------------------------------------------------------------------------------------------- replies
class AnswerBody(BaseModel):
    """One answer; see ``smolrgpt.Answer``."""

    question: str
    answer: str
    normalized_answer: str | int | float | None = Field(description="left or right, a count, a region's number, a length in unit, or null")
    unit: str | None = Field(default=None, description="of a length: m, or what the question asks for, as cm, ft or in")
    category: str = Field(description="the kind of question; cannot_tell where it cannot be answered")
    reason: str | None = Field(default=None, description="why it cannot be answered, such as colour, no region, no scale, unsure")
    confidence: float = Field(ge=0, le=1)


class Usage(BaseModel):
    """Tokens that the model read and wrote, those of the image included; a prompt that several questions share counts for each."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswersBody(BaseModel):
    """Answers in the order of the questions."""

    id: str = Field(description="the request's id, also in the header x-request-id")
    model: str
    answers: list[AnswerBody]
    inputs: InputsRead = Field(description="how depth and camera were read, and what is doubtful")
    usage: Usage
    seconds: float


# ---------------------------------------------------------------------------------------------------------------------- parsing
B = TypeVar("B", bound=BaseModel)


def parse(body: bytes, kind: type[B]) -> B:
    """Parse JSON into one of the bodies. Raises Refusal 400 naming the first wrong field."""
    return validate(parse_json(body, "the body"), kind)


def parse_json(text: bytes | str, name: str) -> Any:
    """Parse JSON. Raises Refusal 400, also for an object that has a field twice."""
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"{name}: the value is not JSON: {error}") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refusal(400, f"{brief(twice)}: the field is given twice in one object; give it once", twice)
    return value


def validate(value: Any, kind: type[B]) -> B:
    """Turn JSON into one of the bodies. Raises Refusal 400 naming the first wrong field."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first, *rest = error.errors(include_url=False)
        place = [*first["loc"], *([first["ctx"]["field"]] if "field" in first.get("ctx", {}) else [])]
        param = brief(".".join(map(str, place)), 120)
        found = "" if first["type"] in _COMPLETE else f", found {brief(repr(first.get('input')))}"
        more = f" (and {len(rest)} more)" if rest else ""
        raise Refusal(400, f"{param or 'the body'}: {first['msg']}{found}{more}", param or None) from error
