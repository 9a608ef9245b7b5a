"""The service's engine: a Predictor that answers waiting requests together. It runs as replicas of Ray Serve."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from smolrgpt.apps.service.messages import IMAGE_FORMATS, AskRequest, Reply
from smolrgpt.inference.inputs import Inquiry
from smolrgpt.inference.predictor import Predictor
from smolrgpt.schema import DataError, DepthMap, DepthMeaning, DepthOptions, naming
from smolrgpt.schema.image_file import image_from_bytes, open_image_bytes

logger = logging.getLogger(__name__)


#: Reply to a request whose client has gone.
_DROPPED = Reply(error="the client has gone", status=503)


@dataclass
class QueuedInquiry:
    """One image and its questions that wait for the model.

    on_text: called with a question's position and its answer so far; dropped: the client has gone.
    """

    inquiry: Inquiry
    on_text: Callable[[int, str], None] | None = None
    dropped: bool = False


class Engine:
    """Decodes, checks and answers requests. A subclass may gather queued inquiries and call ``answer_batch`` with several."""

    def __init__(self, predictor: Predictor):
        self.predictor = predictor

    async def ask(self, ask: AskRequest) -> Reply:
        """Return all answers, or the reason why there are none."""
        item = await self._item(ask)
        return item if isinstance(item, Reply) else await self._wait(item)

    async def stream(self, ask: AskRequest) -> AsyncIterator[str | Reply]:
        """Yield the unfinished answer to the first question again and again, and at last the Reply."""
        item = await self._item(ask)
        if isinstance(item, Reply):
            yield item
            return
        loop, texts = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def on_text(position: int, text: str) -> None:
            if position == 0:
                loop.call_soon_threadsafe(texts.put_nowait, text)

        item.on_text = on_text
        task = asyncio.create_task(self._wait(item))
        task.add_done_callback(lambda _: texts.put_nowait(None))
        try:
            while (text := await texts.get()) is not None:
                yield text
            yield task.result()
        finally:
            item.dropped = True
            task.cancel()

    async def _item(self, ask: AskRequest) -> QueuedInquiry | Reply:
        try:
            return QueuedInquiry(await asyncio.to_thread(self._prepare, ask))
        except (ValueError, MemoryError) as error:
            return Reply(error=" ".join(str(error).split()) or type(error).__name__)

    async def _wait(self, item: QueuedInquiry) -> Reply:
        try:
            return await self.answer_item(item)
        except asyncio.CancelledError:
            item.dropped = True
            raise

    async def answer_item(self, item: QueuedInquiry) -> Reply:
        """Return the reply to one queued inquiry; this class answers each alone, a subclass may wait for more to share a batch."""
        return (await asyncio.to_thread(self.answer_batch, [item]))[0]

    def _prepare(self, ask: AskRequest) -> Inquiry:
        with naming("the image"):
            image = open_image_bytes(ask.image, IMAGE_FORMATS)
        DepthMeaning.from_options(**ask.depth_options).require_map(ask.depth)
        depth = None if ask.depth is None else _depth(ask.depth, ask.depth_options)
        regions = [_region(region, number) for number, region in enumerate(ask.regions)]
        return self.predictor.prepare(image, ask.questions, depth, regions, ask.camera, ask.min_confidence)

    def answer_batch(self, items: list[QueuedInquiry]) -> list[Reply]:
        """Answer several queued inquiries at once; when that fails, each is tried alone, so that one cannot harm another."""
        waiting = [item for item in items if not item.dropped]
        replies = dict(zip(map(id, waiting), self._answer(waiting), strict=True))
        return [replies.get(id(item), _DROPPED) for item in items]

    def _answer(self, items: list[QueuedInquiry]) -> list[Reply]:
        def on_text(i: int, j: int, text: str) -> None:
            callback = items[i].on_text
            if callback is not None:
                callback(j, text)

        if not items:
            return []
        callback = on_text if any(item.on_text for item in items) else None
        try:
            answers = self.predictor.answer([item.inquiry for item in items], callback)
        except Exception as error:
            if len(items) > 1:
                return [reply for item in items for reply in self._answer([item])]
            if isinstance(error, ValueError):
                return [Reply(error=" ".join(str(error).split()))]
            logger.exception("an inquiry failed")
            return [Reply(error="this request made the engine fail, which is a fault of the service; its log says more", status=500)]
        batch = sum(map(len, answers))
        return [Reply([dataclasses.asdict(answer) for answer in found], batch=batch) for found in answers]


def _depth(data: bytes, options: DepthOptions) -> DepthMap:
    try:
        return DepthMap.from_bytes(data, DepthMeaning.from_options(**options))
    except DataError as error:
        raise DataError(f"depth: {error}") from error


def _region(region: dict[str, Any], index: int) -> dict[str, Any]:
    """Decode a region's mask image; the predictor reads all other forms, of which none is a file's name."""
    if not isinstance(region.get("mask"), bytes):
        return region
    with naming(f"region {index}"):
        return {**region, "mask": image_from_bytes(region["mask"], IMAGE_FORMATS, single=True)}
