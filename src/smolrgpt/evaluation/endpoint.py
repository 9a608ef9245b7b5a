"""Structured requests to a language model behind any OpenAI-compatible endpoint: many at once, each made once, none of them fatal."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from smolrgpt.data.io import write_text

#: The usual address of vLLM, llama.cpp and other servers on one machine, and the extractor of the paper's comparison.
DEFAULT_URL, DEFAULT_MODEL = "http://localhost:8000/v1", "Qwen/Qwen2.5-14B-Instruct"
#: Longest reply: JSON objects with one field are shorter.
MAX_REPLY_TOKENS = 64

_CODE_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


class ReplyForm(BaseModel):
    """The base of the JSON objects that a language model replies with: no other fields, no infinite numbers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


F = TypeVar("F", bound=ReplyForm, covariant=True)


@dataclass(frozen=True)
class Reply(Generic[F]):
    """The validated reply of a language model; value None: there is no usable one, for this ``reason``."""

    value: F | None
    reason: str = ""


class Endpoint:
    """A language model behind an OpenAI-compatible endpoint; the key, if one is needed, is in OPENAI_API_KEY.

    Args:
        url: The address of the endpoint.
        model: The name of the model there.
        cache: A folder of replies, one file per request, so that a repeated run requests only what is missing; None for no cache.
        concurrency: How many requests are made at the same time.
        max_retries: How often a request is repeated that failed on the way (connection, time, 408, 409, 429, 5xx), with growing delays.
        timeout_s: The time limit of an attempt, in seconds.

    Raises:
        ImportError: The package ``openai`` is missing.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        model: str = DEFAULT_MODEL,
        *,
        cache: str | Path | None = None,
        concurrency: int = 8,
        max_retries: int = 4,
        timeout_s: float = 60.0,
    ):
        try:
            import openai
        except ImportError:
            raise ImportError("a language model's endpoint needs one more package: pip install 'smolrgpt[llm]'") from None
        self.model, self.concurrency = model, concurrency
        self.cache = None if cache is None else Path(cache)
        self._error = openai.OpenAIError
        key = os.environ.get("OPENAI_API_KEY", "none")  # the client requires one even where the server does not
        self._client = openai.OpenAI(base_url=url, api_key=key, max_retries=max_retries, timeout=timeout_s)

    def ask_all(self, prompts: Sequence[tuple[str, str]], forms: Sequence[type[F]]) -> list[Reply[F]]:
        """Return one reply, of the form asked for, for each (instructions, text), in order. Never raises for a reply."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            replies = pool.map(self._ask, prompts, forms)
            return list(tqdm(replies, total=len(prompts), unit="reply"))

    def _ask(self, prompt: tuple[str, str], form: type[F]) -> Reply[F]:
        request = self._request(prompt, form)
        path = self._cache_path(request)
        if path is not None and path.exists():
            return _validated(path.read_text(encoding="utf-8"), form)
        try:
            response = self._client.chat.completions.create(**request)
            content = response.choices[0].message.content or ""
        except (self._error, ValueError, AttributeError, TypeError, IndexError) as error:  # the latter: a reply that is no completion
            return Reply(None, f"no reply: {' '.join(str(error).split())[:200] or type(error).__name__}")
        reply = _validated(content, form)
        if path is not None and reply.value is not None:  # an unusable reply is requested again
            write_text(path, content, concurrent=True)
        return reply

    def _request(self, prompt: tuple[str, str], form: type[ReplyForm]) -> dict[str, Any]:
        instructions, text = prompt
        schema = {"name": form.__name__, "schema": form.model_json_schema(), "strict": True}
        # the schema is in the instructions too: not every server constrains the model, and a constrained model that has not read the
        # schema writes nonsense
        instructions = f"{instructions} Reply with one JSON object and nothing else, of this schema: {json.dumps(schema['schema'])}".strip()
        return {
            "model": self.model,
            "messages": [{"role": "system", "content": instructions}, {"role": "user", "content": text}],
            "response_format": {"type": "json_schema", "json_schema": schema},
            "temperature": 0.0,
            "max_tokens": MAX_REPLY_TOKENS,
        }

    def _cache_path(self, request: dict[str, Any]) -> Path | None:
        """Return the file of a request, named by its content: another model, prompt or form is another request."""
        if self.cache is None:
            return None
        name = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        return self.cache / name[:2] / f"{name}.json"


def _validated(content: str, form: type[F]) -> Reply[F]:
    """Parse a reply. A code fence around the object is accepted, prose is not: it may quote what was to be read."""
    fenced = _CODE_FENCE.fullmatch(content.strip())
    try:
        return Reply(form.model_validate_json(fenced[1] if fenced else content))
    except ValueError:
        return Reply(None, f"not the JSON that was asked for: {' '.join(content.split())[:80]!r}")
