"""Structured questions to a language model behind any OpenAI-compatible endpoint: many at once, each asked once, none fatal."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tqdm import tqdm

from smolrgpt.data.io import atomic_path

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T", bound="BaseModel")

#: What vLLM, llama.cpp and others serve on one machine, and the extractor of the paper's comparison.
DEFAULT_URL, DEFAULT_MODEL = "http://localhost:8000/v1", "Qwen/Qwen2.5-14B-Instruct"

_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


@dataclass(frozen=True)
class Reply(Generic[T]):
    """value: what the model said, checked; None: it said nothing usable, for this ``reason``."""

    value: T | None
    reason: str = ""


class Endpoint:
    """url, model: where and what; the key is in OPENAI_API_KEY, if one is needed. concurrency: requests under way at a time; max_retries:
    of a request that failed on the way (connection, time, 408, 409, 429, 5xx; the library waits longer each time); timeout_s: of a try.
    cache: folder of replies, one file a question asked, so that a run that stopped, or is repeated, asks for what is missing only.

    Raises ImportError when the package ``openai`` is missing.
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
        key = os.environ.get("OPENAI_API_KEY", "none")  # the client wants one even where the server does not
        self._client = openai.OpenAI(base_url=url, api_key=key, max_retries=max_retries, timeout=timeout_s)

    def ask_all(self, prompts: Sequence[tuple[str, str]], shapes: Sequence[type[T]], progress: bool = True) -> list[Reply[T]]:
        """One reply for each (instructions, text), in order; ``shapes``: what each reply must look like. Never raises for a reply."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            replies = pool.map(self._ask, prompts, shapes)
            return list(tqdm(replies, total=len(prompts), unit="reply", disable=not progress))

    def _ask(self, prompt: tuple[str, str], shape: type[T]) -> Reply[T]:
        request = self._request(prompt, shape)
        path = self._path(request)
        if path is not None and path.exists():
            return _checked(path.read_text(encoding="utf-8"), shape)
        try:
            response = self._client.chat.completions.create(**request)
            content = response.choices[0].message.content or ""
        except (self._error, ValueError, AttributeError, TypeError, IndexError) as error:  # the latter: a reply that is no completion
            return Reply(None, f"no reply: {' '.join(str(error).split())[:200] or type(error).__name__}")
        reply = _checked(content, shape)
        if path is not None and reply.value is not None:  # what could not be used is asked for again
            with atomic_path(path, concurrent=True) as temporary:
                temporary.write_text(content, encoding="utf-8")
        return reply

    def _request(self, prompt: tuple[str, str], shape: type[T]) -> dict[str, Any]:
        instructions, text = prompt
        schema = {"name": shape.__name__, "schema": shape.model_json_schema(), "strict": True}
        # in words as well: not every server holds the model to a form, and a model that is held to one it was not told writes nonsense
        instructions = f"{instructions} Reply with one JSON object and nothing else, of this schema: {json.dumps(schema['schema'])}".strip()
        return {
            "model": self.model,
            "messages": [{"role": "system", "content": instructions}, {"role": "user", "content": text}],
            "response_format": {"type": "json_schema", "json_schema": schema},
            "temperature": 0.0,
            "max_tokens": 64,
        }

    def _path(self, request: dict[str, Any]) -> Path | None:
        """By the content of the request, so that another model, prompt or shape is another question."""
        if self.cache is None:
            return None
        name = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        return self.cache / name[:2] / f"{name}.json"


def _checked(content: str, shape: type[T]) -> Reply[T]:
    """A fence of code round the object is passed over, prose is not: it may quote what was to be read."""
    fenced = _FENCE.fullmatch(content.strip())
    try:
        return Reply(shape.model_validate_json(fenced[1] if fenced else content))
    except ValueError:
        return Reply(None, f"not the JSON that was asked for: {' '.join(content.split())[:80]!r}")
