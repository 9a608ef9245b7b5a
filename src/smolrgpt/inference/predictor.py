"""Predictor: the interface to the model for command line, page, service, evaluation and validation.

Legend: I images, N regions of all images, Q questions, R regions of a question.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from smolrgpt.data.collate import encode_question, encode_words, region_tables
from smolrgpt.data.frame import Frame
from smolrgpt.inference.answer import Answer, make_answer, readable_prefix
from smolrgpt.inference.checkpoints import EXPORT_RECORD, resolve_checkpoint
from smolrgpt.inference.generation import AnswerGenerator, Generated, PromptBatch
from smolrgpt.inference.image_cache import (
    CACHE_BYTES,
    IMAGES_PER_STEP,
    EncodedImage,
    EncodingRequest,
    ImageCache,
    ImageEncoder,
    content_key,
)
from smolrgpt.inference.inputs import (
    CameraLike,
    DepthLike,
    ImageLike,
    Inquiry,
    Question,
    RegionLike,
    read_frame,
)
from smolrgpt.inference.refusals import MinConfidence, check_min_confidence, reason_of_rules, refuse, withhold
from smolrgpt.precision import best_dtype
from smolrgpt.schema import DataError, DepthMeaning, DepthOptions, Region, Sample
from smolrgpt.tasks import recognise
from smolrgpt.tasks.mentions import how_to_mention, read_mentions

#: Length of a question: ten times the longest of the data sets, and more than any model here reads.
MAX_QUESTION_CHARACTERS = 10_000
#: Length of an answer: longer than any of the data sets; answers end by themselves before.
MAX_NEW_TOKENS = 256
#: Questions that ``predict_samples`` encodes images for at a time, as a multiple of the questions answered together.
BATCHES_PER_STEP = 4

#: Called with the positions of an inquiry and of a question in it, and the question's answer so far.
OnText = Callable[[int, int, str], None]


class Predictor:
    """A model and its processor, ready to answer.

    >>> predictor = Predictor.from_pretrained("nano")
    >>> predictor.ask("scene.png", "How far is <region 0> from <region 1>?", depth="depth.png", regions=[(10, 20, 90, 80), "mask.png"])
    """

    def __init__(self, model: Any, processor: Any, max_new_tokens: int = MAX_NEW_TOKENS, cache_bytes: int = CACHE_BYTES):
        """Take a model in evaluation mode; ``cache_bytes``: memory for encoded images, which further questions reuse."""
        self.model, self.processor, self.max_new_tokens = model, processor, max_new_tokens
        self.image_cache = ImageCache(cache_bytes)
        self.encoder, self.generator = ImageEncoder(model, processor), AnswerGenerator(model, processor)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "nano",
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        attn_implementation: str | None = None,
    ) -> Predictor:
        """Load a bundled checkpoint ("nano"), a folder written by ``save_pretrained`` or ``smolrgpt export``, or a hub id "owner/name".

        dtype: None = what the hardware multiplies natively; device: None = the accelerator if there is one;
        attn_implementation: None = eager on CPUs, where it is 1.4 to 3 times faster than sdpa at these sizes.
        All of these are fixed in an exported model, which refuses them.
        Raises ValueError when there is no such checkpoint.
        """
        from smolrgpt.model import SmolRGPTForConditionalGeneration, SmolRGPTProcessor

        source = resolve_checkpoint(name)
        if (Path(source) / EXPORT_RECORD).is_file():
            from smolrgpt.inference.exported import ExportedSmolRGPT

            if dtype is not None or attn_implementation is not None or device not in (None, "cpu", torch.device("cpu")):
                raise ValueError(
                    f"{source} is an exported model, which runs as it was exported; leave out dtype, device and attn_implementation"
                )
            return cls(ExportedSmolRGPT.load(Path(source)), SmolRGPTProcessor.from_pretrained(source))
        target = torch.device(device or _default_device())
        model = SmolRGPTForConditionalGeneration.from_pretrained(
            source,
            dtype=dtype or best_dtype(target),
            attn_implementation=attn_implementation or ("eager" if target.type == "cpu" else "sdpa"),
        )
        return cls(torch.nn.Module.to(model, target).eval(), SmolRGPTProcessor.from_pretrained(source))

    def __repr__(self) -> str:
        count = self.num_parameters
        size = "" if count is None else f", {count / 1e6:.1f} M parameters"
        kinds = ", ".join(self.processor.region_tokens) or "none"
        return f"Predictor({type(self.model).__name__}{size}, {self.model.dtype} on {self.model.device}, region features: {kinds})"

    @property
    def num_parameters(self) -> int | None:
        """Number of parameters; None for an exported model."""
        return sum(p.numel() for p in self.model.parameters()) if isinstance(self.model, torch.nn.Module) else None

    # ---------------------------------------------------------------------------------------------------------------- one image
    def ask(
        self,
        image: ImageLike,
        question: str,
        depth: DepthLike | None = None,
        regions: Sequence[RegionLike] = (),
        camera: CameraLike | None = None,
        min_confidence: MinConfidence | None = None,
        **depth_options: Unpack[DepthOptions],
    ) -> Answer:
        """Answer one question; see ``ask_many``."""
        return self.ask_many(image, [question], depth, regions, camera, min_confidence, **depth_options)[0]

    def ask_many(
        self,
        image: ImageLike | Frame,
        questions: Sequence[str],
        depth: DepthLike | None = None,
        regions: Sequence[RegionLike] = (),
        camera: CameraLike | None = None,
        min_confidence: MinConfidence | None = None,
        **depth_options: Unpack[DepthOptions],
    ) -> list[Answer]:
        """Answer several questions about one image, which is encoded once; later questions about the same content reuse it.

        A question mentions regions as ``<region 0>``, ``<region 1>``, ... (indices into ``regions``), or as one plain ``<mask>`` per
        region, in order.
        image: a path, an image, an array, or a Frame, which has depth and camera as well.
        depth: of any form that ``DepthMap.from_any`` takes; it may have another size than the image, not another shape.
        min_confidence: from 0 to 1, for all kinds or by kind; an answer of less confidence is withheld ("cannot_tell", with the reason).
        None: what the checkpoint holds.
        depth_options: what its values mean, where neither its type nor a depth.json beside it states it: ``depth_unit`` (metres per stored
        unit, or a name such as "mm", "tum", "kitti"), ``depth_kind`` ("metric", "relative", "inverse"), ``depth_near`` ("dark", "bright").
        Raises ValueError when questions and regions do not fit, DataError for files that cannot be read or do not fit.
        """
        if not questions:
            return []
        started = time.perf_counter()
        inquiry = self.prepare(image, questions, depth, regions, camera, min_confidence, **depth_options)
        answers = self.answer([inquiry])[0]
        seconds = (time.perf_counter() - started) / len(answers)
        shown = inquiry.read_frame().image, list(inquiry.regions)
        return [replace(answer, seconds=seconds).with_context(text, *shown) for text, answer in zip(questions, answers, strict=True)]

    def __call__(self, image: ImageLike, question: str | Sequence[str], **options: Any) -> Answer | list[Answer]:
        """Call ``ask`` for one question, ``ask_many`` for a list, as pipelines are called."""
        return self.ask(image, question, **options) if isinstance(question, str) else self.ask_many(image, question, **options)

    def prepare(
        self,
        image: ImageLike | Frame,
        questions: Sequence[str],
        depth: DepthLike | None = None,
        regions: Sequence[RegionLike] = (),
        camera: CameraLike | None = None,
        min_confidence: MinConfidence | None = None,
        **depth_options: Unpack[DepthOptions],
    ) -> Inquiry:
        """Read and check everything that ``answer`` needs, without the model; several threads may do so at once.

        image: of any form that ``ask_many`` takes, or a Frame, which has depth and camera as well.
        Raises the same errors as ``ask_many``.
        """
        if min_confidence is not None:
            check_min_confidence(min_confidence)
        meaning = DepthMeaning.from_options(**depth_options)
        meaning.require_map(depth)
        frame = image if isinstance(image, Frame) else read_frame(image, depth, camera, meaning)
        if frame is image and (depth is not None or camera is not None):
            raise DataError("the image is a Frame, which has depth and camera; leave them out")
        mentions = [read_mentions(question, len(regions)) for question in questions]
        if regions and not any(indices for _, indices in mentions):
            raise ValueError(f"{len(regions)} regions were given but no question mentions one; {how_to_mention(len(regions))}")
        table = [frame.read_region(f"region {index}", region) for index, region in enumerate(regions)]
        asked = [self._question(text, [table[index] for index in indices], indices) for text, indices in mentions]
        has_boxes = any(not isinstance(given, Region) and region.to_patch()[0].all() for given, region in zip(regions, table, strict=True))
        inputs = frame.inputs_read(table, _asks_length(asked), has_boxes)
        return Inquiry(asked, lambda: frame, table, content_key(frame), inputs, min_confidence)

    def _question(self, text: str, regions: list[Region], indices: list[int]) -> Question:
        """Encode a question. Raises ValueError for an empty question, and for one longer than the model reads."""
        if not text.strip():
            raise ValueError("the question is empty; expected a sentence, such as: How far is <region 0> from <region 1>?")
        if len(text) > MAX_QUESTION_CHARACTERS:
            raise ValueError(f"the question has {len(text)} characters; expected at most {MAX_QUESTION_CHARACTERS}")
        return self._encoded(encode_words(self.processor, text, len(regions)), text, regions, indices)

    def _encoded(self, encoded: Mapping[str, Any], text: str, regions: list[Region], indices: Sequence[int]) -> Question:
        """Return a question whose text is encoded. Raises DataError for one that is longer than the model reads."""
        limit = self.model.config.text_config.max_position_embeddings - self.max_new_tokens
        input_ids = encoded["input_ids"]
        if len(input_ids) > limit:
            raise DataError(f"the question and its image take {len(input_ids)} tokens, this model reads {limit}; ask in fewer words")
        return Question(text, recognise(text), input_ids, regions, indices, encoded.get("given_lengths", ()))

    # --------------------------------------------------------------------------------------------------------------- data sets
    def predict_samples(self, samples: Sequence[Sample], batch_size: int = 64) -> list[Answer]:
        """Return one answer per sample, in order. Samples of the same ``image_key`` share one encoding, ``batch_size`` go together.

        Files are read and images encoded a few at a time. The kind of a question is read from its words, as for `ask`; a sample's own
        category is for scoring. Raises DataError for an image, depth map or mask that cannot be used.
        """
        answers: dict[int, Answer] = {}
        for groups in _steps(samples, BATCHES_PER_STEP * batch_size):
            inquiries = [self._inquiry([samples[i] for i in group]) for group in groups]
            found = self.answer(inquiries, batch_size=batch_size)
            answers |= zip(itertools.chain(*groups), itertools.chain(*found), strict=True)
        return [answers[i] for i in range(len(samples))]

    def _inquiry(self, samples: Sequence[Sample]) -> Inquiry:
        """Turn samples of one image into an inquiry that reads the image when it is encoded."""
        first = samples[0]
        questions = [
            self._encoded(encode_question(self.processor, sample), sample.question, sample.regions, sample.region_indices)
            for sample in samples
        ]

        def read_frame() -> Frame:
            frame = Frame.from_sample(first)
            inquiry.inputs = frame.inputs_read(list(region_tables(samples)[first.image_key]), _asks_length(questions))
            return frame

        inquiry = Inquiry(questions, read_frame)
        return inquiry

    # ----------------------------------------------------------------------------------------------------------------- answering
    def answer(self, inquiries: Sequence[Inquiry], on_text: OnText | None = None, batch_size: int = 64) -> list[list[Answer]]:
        """Answer all questions of several inquiries, ``batch_size`` together: a list of answers for each inquiry.

        on_text: called from this thread as answers grow. Raises DataError for an image that is read only now and cannot be used.
        """
        started = time.perf_counter()
        questions = [question for inquiry in inquiries for question in inquiry.questions]
        if not questions:
            return [[] for _ in inquiries]
        positions = [(i, j) for i, inquiry in enumerate(inquiries) for j in range(len(inquiry.questions))]

        def on_tokens(row: int, ids: list[int]) -> None:
            assert on_text is not None
            on_text(*positions[row], readable_prefix(questions[row], self.processor.post_process(ids)))

        batch = self._encode([inquiry for inquiry in inquiries if inquiry.questions])
        callback = None if on_text is None else on_tokens
        generated = self.generator.generate(questions, batch, self.max_new_tokens, batch_size, callback)
        seconds = (time.perf_counter() - started) / len(questions)
        asked = (inquiry for inquiry in inquiries for _ in inquiry.questions)
        answers = (self._finish(*one, seconds) for one in zip(questions, generated, asked, strict=True))
        return [list(itertools.islice(answers, len(inquiry.questions))) for inquiry in inquiries]

    def _finish(self, question: Question, generated: Generated, inquiry: Inquiry, seconds: float) -> Answer:
        """Read a generated answer, and withhold it where it cannot be told or is not certain enough.

        Rules refuse for a model of regions that was not trained to refuse.
        """
        answer = make_answer(question, generated, inquiry.inputs, seconds)
        if self.processor.answer_field and not self.processor.kinds_from_text and (reason := reason_of_rules(question)) is not None:
            return refuse(answer, reason)
        least = self.processor.min_confidence if inquiry.min_confidence is None else inquiry.min_confidence
        return withhold(answer, least)

    def _encode(self, inquiries: Sequence[Inquiry]) -> PromptBatch:
        """Encode the images and regions of the inquiries, each once, and point their questions at them."""
        if self.processor.is_blind:
            return PromptBatch({}, self.encoder.read_prefix(None))
        tables: dict[EncodedImage, dict[Region, int]] = {}
        frames: dict[EncodedImage, Callable[[], Frame]] = {}
        rows: list[tuple[EncodedImage, list[Region]]] = []
        for inquiry in inquiries:
            image = self.image_cache.get(inquiry.content_key)
            table = tables.setdefault(image, {})
            frames[image] = inquiry.read_frame
            for question in inquiry.questions:
                rows.append((image, question.regions))
                for region in question.regions:
                    table.setdefault(region, len(table))
        features = self.encoder.encode([EncodingRequest(image, frames[image], list(table)) for image, table in tables.items()])
        prefix = self.encoder.prefix_cache(list(tables))
        self.image_cache.evict()
        order = {image: i for i, image in enumerate(tables)}
        first = dict(zip(tables, itertools.accumulate(map(len, tables.values()), initial=0), strict=False))
        image_index = torch.tensor([order[image] for image, _ in rows])
        region_index = _padded([[first[image] + tables[image][region] for region in regions] for image, regions in rows])
        return PromptBatch(features, prefix, image_index, region_index)


def _asks_length(questions: Sequence[Question]) -> bool:
    return any(question.task.is_length for question in questions)


def _default_device() -> str:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if accelerator is None else accelerator.type


def _steps(samples: Sequence[Sample], max_questions: int) -> Iterator[list[list[int]]]:
    """Yield indices of samples, grouped by image: up to ``IMAGES_PER_STEP`` images and about ``max_questions`` questions at a time."""
    groups: dict[Hashable, list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(sample.image_key, []).append(i)
    step: list[list[int]] = []
    for group in groups.values():
        if step and (len(step) == IMAGES_PER_STEP or sum(map(len, step)) + len(group) > max_questions):
            yield step
            step = []
        step.append(group)
    if step:
        yield step


def _padded(rows: list[list[int]]) -> torch.Tensor:
    """Return rows as (Q, R) int64, -1 = padding."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
