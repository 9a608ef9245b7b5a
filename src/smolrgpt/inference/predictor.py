"""The only way anything runs the model: the command line, the demos, the server, evaluation and validation all ask a Predictor.

Legend: I images, N regions of all images, Q questions, P image tokens, D text width, H W image height and width in pixels.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache, LogitsProcessorList

from smolrgpt import schema
from smolrgpt.data.collate import encode_question, prepare_image, region_tables
from smolrgpt.data.loading import load_image, load_sample_depth
from smolrgpt.inference.generation import (
    AnswerField,
    ChosenProbabilities,
    FieldVocabulary,
    Written,
    distance_probability,
    greedy,
)
from smolrgpt.inference.inputs import CameraLike, DepthLike, ImageLike, RegionLike, as_image, check_depth, check_region
from smolrgpt.model import RegionFeatures
from smolrgpt.model.processing_smolrgpt import TURN_END
from smolrgpt.precision import best_dtype
from smolrgpt.schema import Camera, DataError, DepthMap, Polarity, Region, Sample
from smolrgpt.tasks import FIELD_SEPARATOR, Task, recognise
from smolrgpt.tasks.region_text import REGION_NUMBERS, how_to_mention, read_mentions, renumber_tags

#: Of one question: ten times the longest of the data sets, and more than any model here reads.
MAX_QUESTION_CHARACTERS = 10_000
#: Longer than any answer of the data sets; answers end by themselves before.
MAX_NEW_TOKENS = 256
#: Images encoded together by ``predict_samples``: enough to fill a GPU, few enough that the published model's maps (15 MB an image) fit.
IMAGES_PER_STEP = 16
#: The same on a CPU, which two images keep busy: what more would need is memory.
IMAGES_PER_CPU_STEP = 2
#: Encoded images that a Predictor remembers, in bytes: some fifteen of the published model's, hundreds of nano's.
REMEMBERED_BYTES = 256_000_000
#: Keys and values of the questions answered together on a CPU, in bytes: some fifteen of the published model's, which two cores answer as
#: fast as thirty-two; a hundred of nano's.
CPU_CACHE_BYTES = 128_000_000
#: Tokens of an answer, for that sum.
USUAL_ANSWER = 32

#: The file by which an exported model is known (see ``exported.py``).
EXPORT_RECORD = "export.json"


@dataclass(frozen=True)
class Answer(schema.Answer):
    """The answer of a model, whose confidence is always known; a notebook shows it with its image."""

    confidence: float

    def _repr_html_(self) -> str:
        """For notebooks: the answer, below the picture with its numbered regions where ``ask`` or ``ask_many`` gave it."""
        from smolrgpt.viz.gallery import answer_card

        return answer_card(self, *getattr(self, "_about", (None, None, ())))

    def _with(self, *about: Any) -> Answer:
        """The same, knowing (question, picture, regions); no fields, so that an answer stays what it says when it is compared or stored."""
        object.__setattr__(self, "_about", about)
        return self


#: What the language model has read of the start of I prompts, its picture included: per layer keys and values (I, heads, tokens, width).
_Start = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass
class _Features:
    """One image, encoded; regions are pooled when they are first asked about. image_embeds, maps: as ``SmolRGPTFeatures``, I = 1; start:
    of the prompts about it.
    """

    key: tuple[Any, ...]
    image: Image.Image
    depth: DepthMap | None
    camera: Camera | None
    image_embeds: torch.Tensor | None = None
    maps: dict[str, torch.Tensor] = field(default_factory=dict)
    pooled: dict[Region, RegionFeatures] = field(default_factory=dict)
    start: _Start = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """About what it takes: the picture, the depth map and all tensors."""
        regions = sum(features.nbytes for features in self.pooled.values())
        embeds = () if self.image_embeds is None else (self.image_embeds,)
        tensors = itertools.chain(embeds, self.maps.values(), *self.start)
        depth = 0 if self.depth is None else self.depth.values.nbytes
        return 3 * self.image.width * self.image.height + depth + regions + sum(tensor.nbytes for tensor in tensors)


@dataclass(frozen=True)
class _Question:
    """A question to the model: ``text`` with one ``<mask>`` per region, and what kind of answer it wants. numbers: the asker's own, of each
    region, in order of mention (empty: as they stand).
    """

    text: str
    task: Task
    regions: list[Region]
    numbers: Sequence[int] = ()


@dataclass(frozen=True)
class Inquiry:
    """One picture and the questions about it, checked by ``Predictor.prepare`` and ready for ``Predictor.answer``.

    image: RGB; regions: the asker's table; encoded: a question's ids each, as ``SmolRGPTProcessor.encode_text`` has them.
    """

    image: Image.Image
    depth: DepthMap | None
    camera: Camera | None
    regions: list[Region]
    questions: list[_Question]
    encoded: list[dict[str, list[int]]]


#: Told of answers while they are written: the inquiry's and the question's place, and the text so far.
OnText = Callable[[int, int, str], None]


class _Said(NamedTuple):
    """What the model wrote, how probable it found that (0 to 1), and the part of it that is the normalised answer, where that is marked."""

    text: str
    confidence: float
    field: str | None


class Predictor:
    """A model and its processor, ready to answer.

    >>> predictor = Predictor.from_pretrained("nano")
    >>> predictor.ask("scene.png", "How far is <region 0> from <region 1>?", depth="depth.png", regions=[(10, 20, 90, 80), "mask.png"])
    """

    def __init__(self, model: Any, processor: Any, max_new_tokens: int = MAX_NEW_TOKENS, remembered_bytes: int = REMEMBERED_BYTES):
        """remembered_bytes: of images asked about before, whose encodings are used again; the last one is always remembered."""
        self.model, self.processor = model, processor
        self.max_new_tokens, self.remembered_bytes = max_new_tokens, remembered_bytes
        self._most_rows: int | None = getattr(model, "most_rows", None)  # that the language model should be given at once
        self._end = processor.tokenizer.convert_tokens_to_ids(TURN_END)
        self._vocabulary = FieldVocabulary(processor.tokenizer, self._end) if processor.answer_field else None
        self._remembered: dict[tuple[Any, ...], _Features] = {}  # the last one asked about comes last

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "nano",
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        attn_implementation: str | None = None,
    ) -> Predictor:
        """A bundled checkpoint ("nano"), a folder written by ``save_pretrained`` or ``smolrgpt export``, or a hub id "owner/name".

        dtype: None = what the hardware multiplies natively; device: None = the accelerator if there is one;
        attn_implementation: None = eager on CPUs, where it is 1.4 to 3 times faster than sdpa at these sizes.
        An exported model has all of these decided; naming one is refused.
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
        model.to(target)  # type: ignore[arg-type]
        return cls(model.eval(), SmolRGPTProcessor.from_pretrained(source))

    # ---------------------------------------------------------------------------------------------------------------- one image
    def ask(
        self,
        image: ImageLike,
        question: str,
        depth: DepthLike | None = None,
        regions: Sequence[RegionLike] = (),
        camera: CameraLike | None = None,
        depth_near: Polarity = "dark",
    ) -> Answer:
        """Answer one question; see ``ask_many``."""
        return self.ask_many(image, [question], depth, regions, camera, depth_near)[0]

    def ask_many(
        self,
        image: ImageLike,
        questions: Sequence[str],
        depth: DepthLike | None = None,
        regions: Sequence[RegionLike] = (),
        camera: CameraLike | None = None,
        depth_near: Polarity = "dark",
    ) -> list[Answer]:
        """Answer several questions about one image, which is encoded once; asking again about the same content reuses it.

        A question mentions regions as ``<region 0>``, ``<region 1>``, ... (places in ``regions``), or as one plain ``<mask>`` per region,
        in order.
        depth: near = small; ``depth_near="bright"`` turns a relative map round. It may have another size than the image, not another shape.
        Raises ValueError when questions and regions do not fit, DataError for unreadable or unfitting files.
        """
        if not questions:
            return []
        started = time.perf_counter()
        inquiry = self.prepare(image, questions, depth, regions, camera, depth_near)
        answers = self.answer([inquiry])[0]
        seconds = (time.perf_counter() - started) / len(answers)
        about = inquiry.image, inquiry.regions
        return [replace(answer, seconds=seconds)._with(question, *about) for question, answer in zip(questions, answers, strict=True)]

    def __call__(self, image: ImageLike, question: str | Sequence[str], **options: Any) -> Answer | list[Answer]:
        """``ask`` for one question, ``ask_many`` for a list, as pipelines are called."""
        return self.ask(image, question, **options) if isinstance(question, str) else self.ask_many(image, question, **options)

    def __repr__(self) -> str:
        count = self.num_parameters
        size = "" if count is None else f", {count / 1e6:.1f} M parameters"
        kinds = ", ".join(self.processor.region_tokens) or "none"
        return f"Predictor({type(self.model).__name__}{size}, {self.model.dtype} on {self.model.device}, region features: {kinds})"

    @property
    def num_parameters(self) -> int | None:
        """None for an exported model."""
        return sum(p.numel() for p in self.model.parameters()) if isinstance(self.model, torch.nn.Module) else None

    def prepare(
        self,
        image: ImageLike,
        questions: Sequence[str],
        depth: DepthLike | None = None,
        regions: Sequence[RegionLike] = (),
        camera: CameraLike | None = None,
        depth_near: Polarity = "dark",
    ) -> Inquiry:
        """What ``ask_many`` does before the model is needed: read and check everything. Safe in several threads. Raises as it does."""
        picture = as_image(image)
        mentions = [read_mentions(question, len(regions)) for question in questions]
        if regions and not any(numbers for _, numbers in mentions):
            raise ValueError(f"{len(regions)} regions were given but no question mentions one; {how_to_mention(len(regions))}")
        table = [Region.from_any(region, picture.height, picture.width) for region in regions]
        for number, region in enumerate(table):
            check_region(f"region {number}", region, picture)
        depth_map = None if depth is None else DepthMap.from_any(depth, near=depth_near)
        if depth_map is not None:
            check_depth(depth_map, picture)
        intrinsics = None if camera is None else Camera.from_any(camera, picture.height, picture.width)
        asked = [_Question(text, recognise(text), [table[number] for number in numbers], numbers) for text, numbers in mentions]
        return Inquiry(picture, depth_map, intrinsics, table, asked, [self._encode_text(question) for question in asked])

    def _encode_text(self, question: _Question) -> dict[str, list[int]]:
        """Raises ValueError for an empty question, and for one longer than the model reads."""
        if not question.text.strip():
            raise ValueError("the question is empty; expected a sentence, such as: How far is <region 0> from <region 1>?")
        if len(question.text) > MAX_QUESTION_CHARACTERS:
            raise ValueError(f"the question has {len(question.text)} characters; expected at most {MAX_QUESTION_CHARACTERS}")
        encoded = self.processor.encode_text(question.text, len(question.regions))
        self._check_length(encoded)
        return encoded

    def _check_length(self, encoded: Mapping[str, list[int]]) -> None:
        length, room = len(encoded["input_ids"]), self.model.config.text_config.max_position_embeddings - self.max_new_tokens
        if length > room:
            raise DataError(f"the question and its picture take {length} tokens, this model reads {room}; ask in fewer words")

    def answer(self, inquiries: Sequence[Inquiry], on_text: OnText | None = None) -> list[list[Answer]]:
        """The answers to several inquiries at once, a list each. ``on_text`` is told of every answer as it grows, from this thread."""
        started = time.perf_counter()
        features = [self._encode_once(inquiry) for inquiry in inquiries]
        asked = [(i, j) for i, inquiry in enumerate(inquiries) for j in range(len(inquiry.questions))]
        questions = [inquiry.questions[j] for inquiry in inquiries for j in range(len(inquiry.questions))]

        def tell(row: int, ids: list[int]) -> None:
            assert on_text is not None
            on_text(*asked[row], _readable_start(self.processor.post_process(ids), questions[row]))

        encoded = [encoded for inquiry in inquiries for encoded in inquiry.encoded]
        said = self._answer_about([features[i] for i, _ in asked], questions, encoded, None if on_text is None else tell)
        seconds = (time.perf_counter() - started) / max(len(said), 1)
        answers = iter([_read_answer(q, one, seconds) for q, one in zip(questions, said, strict=True)])
        return [list(itertools.islice(answers, len(inquiry.questions))) for inquiry in inquiries]

    def _encode_once(self, inquiry: Inquiry) -> _Features:
        """The image's features, from memory when it was asked about before."""
        image, depth, camera = inquiry.image, inquiry.depth, inquiry.camera
        key = (_digest(np.asarray(image)), None if depth is None else (_digest(depth.values), depth.kind), camera)
        features = self._remembered.pop(key) if key in self._remembered else _Features(key, image, depth, camera)
        self._remembered[key] = features  # last
        return features

    def _forget(self) -> None:
        """Forget the images asked about longest ago until the others fit."""
        sizes = {key: features.nbytes for key, features in self._remembered.items()}
        for key in list(sizes)[:-1]:
            if sum(sizes.values()) <= self.remembered_bytes:
                break
            del self._remembered[key], sizes[key]

    def _answer_about(
        self,
        features_of: Sequence[_Features],
        questions: list[_Question],
        encoded: list[dict[str, list[int]]],
        on_ids: Callable[[int, list[int]], None] | None,
    ) -> list[_Said]:
        """features_of: each question's image."""
        if not questions:
            return []
        batch = dict(self.processor.collate([], encoded, [], []))
        if self.processor.is_blind:
            return self._generate(batch, {}, self._read_start(None), questions, on_ids=on_ids)
        images = {features.key: features for features in features_of}
        tables: dict[tuple[Any, ...], dict[Region, int]] = {key: {} for key in images}  # as ``region_tables`` has them
        for features, question in zip(features_of, questions, strict=True):
            for region in question.regions:
                tables[features.key].setdefault(region, len(tables[features.key]))
        order = {key: i for i, key in enumerate(images)}
        first = dict(zip(images, itertools.accumulate(map(len, tables.values()), initial=0), strict=False))
        index = [[first[f.key] + tables[f.key][region] for region in q.regions] for f, q in zip(features_of, questions, strict=True)]
        batch |= {"image_index": torch.tensor([order[f.key] for f in features_of]), "region_index": _pad_rows(index)}
        pooled = self._pool([(images[key], list(tables[key])) for key in images])
        for one in images.values():
            one.start = one.start or self._read_start(one.image_embeds)
        self._forget()
        starts = [one.start for one in images.values()]
        start = [tuple(map(torch.cat, zip(*layer, strict=True))) for layer in zip(*starts, strict=True)]
        return self._generate(batch, pooled, start, questions, on_ids=on_ids)  # type: ignore[arg-type]

    @torch.inference_mode()
    def _pool(self, asked: list[tuple[_Features, list[Region]]]) -> dict[str, Any]:
        """``image_embeds`` (I, P, D) and ``region_features`` of images and their regions, computing only what is new."""
        for features, table in asked:
            new = [region for region in table if region not in features.pooled]
            if not new and features.image_embeds is not None:
                continue
            arrays = prepare_image(self.processor, features.image, features.depth, features.camera, new)
            if features.image_embeds is None:
                encoded = self.model.encode_images(*(self._tensor(arrays[name][None]) for name in ("pixel_values", "depth_values")))
                features.image_embeds, features.maps = encoded.image_embeds, encoded.region_maps
            if new:
                masks, geometry = self._tensor(arrays["region_masks"]), self._tensor(arrays["region_geometry"])
                pooled = self.model.pool_regions(features.maps, masks, region_geometry=geometry)
                for i, region in enumerate(new):
                    features.pooled[region] = pooled[i : i + 1]
        rows = [features.pooled[region] for features, table in asked for region in table]
        embeds = [features.image_embeds for features, _ in asked if features.image_embeds is not None]
        return {"image_embeds": torch.cat(embeds), "region_features": RegionFeatures.concatenate(rows)}

    # --------------------------------------------------------------------------------------------------------------- many images
    def predict_samples(self, samples: Sequence[Sample], batch_size: int = 64) -> list[Answer]:
        """One answer per sample, in order. Samples of the same ``image_key`` share one encoding; ``batch_size`` are answered together.

        Raises DataError for an image, depth map or mask that cannot be used.
        """
        answers: dict[int, Answer] = {}
        for chunk in _chunks(samples, 4 * batch_size):
            started = time.perf_counter()
            asked = [samples[i] for i in chunk]
            questions = [_question_of(sample) for sample in asked]
            said = self._predict_chunk(asked, questions, batch_size)
            seconds = (time.perf_counter() - started) / len(chunk)
            read = [_read_answer(q, one, seconds) for q, one in zip(questions, said, strict=True)]
            answers |= zip(chunk, read, strict=True)
        return [answers[i] for i in range(len(samples))]

    def _predict_chunk(self, samples: list[Sample], questions: list[_Question], batch_size: int) -> list[_Said]:
        tables = region_tables(samples)
        order = {key: i for i, key in enumerate(tables)}
        encoded = [encode_question(self.processor, sample) for sample in samples]
        for one in encoded:
            self._check_length(one)
        batch = self.processor.collate(
            self._prepare_images(samples, tables),
            encoded,
            [order[s.image_key] for s in samples],
            [[tables[s.image_key][region] for region in s.regions] for s in samples],
        )
        features = self._encode(batch)
        return self._generate(dict(batch), features, self._read_start(features.get("image_embeds")), questions, batch_size)

    def _prepare_images(self, samples: list[Sample], tables: dict[str, dict[Region, int]]) -> list[dict[str, np.ndarray]]:
        """The processor's arrays of each image in ``tables``; a blind model needs none."""
        if self.processor.is_blind:
            return []
        first = {sample.image_key: sample for sample in reversed(samples)}
        return [
            prepare_image(self.processor, load_image(first[key]), load_sample_depth(first[key]), first[key].camera, list(table))
            for key, table in tables.items()
        ]

    # ------------------------------------------------------------------------------------------------------------------- tensors
    @torch.inference_mode()
    def _encode(self, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """``image_embeds`` (I, P, D) and ``region_features`` of a collated batch; nothing for a blind one."""
        if "pixel_values" not in batch:
            return {}
        together = IMAGES_PER_STEP if self.model.device.type != "cpu" else IMAGES_PER_CPU_STEP
        index, embeds, tables = batch["region_image_index"], [], []
        for first in range(0, len(batch["pixel_values"]), together):
            images, regions = slice(first, first + together), (index >= first) & (index < first + together)
            inputs = [batch[name][images] for name in ("pixel_values", "depth_values")]
            inputs += [batch["region_masks"][regions], index[regions] - first, batch["region_geometry"][regions]]
            features = self.model.encode(*(tensor.to(self.model.device) for tensor in inputs))
            embeds.append(features.image_embeds)  # and not the maps, which are a hundred times as large
            tables.append(features.region_features)
        return {"image_embeds": torch.cat(embeds), "region_features": RegionFeatures.concatenate(tables)}

    @torch.inference_mode()
    def _read_start(self, image_embeds: torch.Tensor | None) -> _Start:
        """What the language model keeps of the start of a prompt about each of (I, P, D) images; of a blind model's, I = 1."""
        parts: Sequence[torch.Tensor | None] = [None] if image_embeds is None else image_embeds.split(self._most_rows or len(image_embeds))
        layers = []
        for embeds in parts:
            count = 1 if embeds is None else len(embeds)
            ids = torch.tensor([self.processor.prompt_start] * count, device=self.model.device)
            index = None if embeds is None else torch.arange(count, device=self.model.device)
            read = self.model.model(input_ids=ids, image_embeds=embeds, image_index=index, use_cache=True)
            layers.append([(layer.keys, layer.values) for layer in read.past_key_values.layers])
        return [tuple(map(torch.cat, zip(*layer, strict=True))) for layer in zip(*layers, strict=True)]  # type: ignore[misc]

    @torch.inference_mode()
    def _generate(
        self,
        batch: dict[str, torch.Tensor],
        features: dict[str, Any],
        start: _Start,
        questions: list[_Question],
        batch_size: int = 64,
        on_ids: Callable[[int, list[int]], None] | None = None,
    ) -> list[_Said]:
        """Greedy answers to every row of a batch, each of which goes on from its image's start. Rows of like length go together, so that
        little is spent on padding, which stands between a row's start and the rest. on_ids: is told of a row and its ids so far.
        """
        begin = torch.tensor(self.processor.prompt_start)
        lengths = batch["attention_mask"].sum(1) - len(begin)
        image_of = batch.get("image_index", torch.zeros(len(questions), dtype=torch.long))
        said: dict[int, _Said] = {}
        pad = self.processor.tokenizer.pad_token_id
        filler = self._end if pad is None else pad
        for rows in self._batches(lengths, start, batch_size):
            width = int(lengths[rows].max())
            length = len(begin) + width
            real = torch.arange(width) >= width - lengths[rows, None]  # (rows, width)
            inputs: dict[str, torch.Tensor] = {
                "input_ids": torch.cat([begin.expand(len(rows), -1), batch["input_ids"][rows][:, -width:].where(real, filler)], 1),
                "attention_mask": torch.cat([torch.ones(len(rows), len(begin), dtype=torch.long), real.long()], 1),
            }
            inputs |= {name: batch[name][rows] for name in ("image_index", "region_index") if name in batch}
            images = image_of[rows].to(self.model.device)
            asked = [questions[row] for row in rows.tolist()]
            thought = ChosenProbabilities(self._vocabulary.digits if self._vocabulary else None)
            outputs = self.model.generate(
                **{name: tensor.to(self.model.device) for name, tensor in inputs.items()},
                **features,
                past_key_values=DynamicCache([(keys[images], values[images]) for keys, values in start]),
                custom_generate=greedy,
                do_sample=False,
                max_new_tokens=self.max_new_tokens,
                eos_token_id=self._end,
                pad_token_id=filler,
                logits_processor=LogitsProcessorList([*self._fields(asked, length), *_telling(on_ids, rows, length), thought]),
            )
            chosen, digits = (torch.stack(steps, dim=1).tolist() for steps in (thought.chosen, thought.digits))  # (Q, T), (Q, T, 10)
            for row, question, ids, *probabilities in zip(rows.tolist(), asked, outputs[:, length:].tolist(), chosen, digits, strict=True):
                said[row] = self._said(question, ids, *probabilities)
        return [said[row] for row in range(len(questions))]

    def _batches(self, lengths: torch.Tensor, start: _Start, batch_size: int) -> Iterator[torch.Tensor]:
        """Rows to answer together, the longest first; lengths (Q,): of their prompts without the start. As many as memory is meant for."""
        begun = start[0][0].shape[2]
        token_bytes = sum(keys[0].nbytes + values[0].nbytes for keys, values in start) / begun
        room = math.inf if self.model.device.type != "cpu" else CPU_CACHE_BYTES / token_bytes
        order = lengths.argsort(descending=True, stable=True)
        while len(order):
            fitting = room / (begun + int(lengths[order[0]]) + USUAL_ANSWER)
            count = max(1, int(min(fitting, batch_size, self._most_rows or batch_size)))
            yield order[:count]
            order = order[count:]

    def _fields(self, questions: list[_Question], prompt_length: int) -> list[AnswerField]:
        """What keeps these rows' answer fields readable; nothing for a model that writes no field."""
        if self._vocabulary is None:
            return []
        patterns = [question.task.field_pattern(len(question.regions)) for question in questions]
        return [AnswerField(self._vocabulary, patterns, prompt_length, self.max_new_tokens)]

    def _said(self, question: _Question, ids: list[int], chosen: list[float], digits: list[list[float]]) -> _Said:
        """What a row's ids (T,) say, and how sure of it the model was: chosen (T,) and digits (T, 10) as of ``ChosenProbabilities``."""
        text, length = self.processor.post_process(ids), ids.index(self._end) if self._end in ids else len(ids)
        if self._vocabulary is None:
            return _Said(text, _probability(chosen[: length + 1]), None)
        field = text.rpartition(FIELD_SEPARATOR)[2].strip()
        start = length - len(field)
        if not question.task.is_length or self._vocabulary.text(ids[start:length]).strip() != field:
            return _Said(text, _probability(chosen[: length + 1]), field)
        sure = distance_probability(field, chosen[start:length], digits[start:length])
        return _Said(text, _probability(chosen[:start]) * sure, field)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.model.device)


# ------------------------------------------------------------------------------------------------------------------- checkpoints
def bundled_checkpoints() -> dict[str, Path]:
    """Name -> folder of the checkpoints inside the package."""
    folder = Path(__file__).parents[1] / "checkpoints"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}


def bundled_checkpoint(name: str) -> Path:
    """The folder of a checkpoint inside the package. Raises ValueError naming those there are."""
    found = bundled_checkpoints()
    if name not in found:
        raise ValueError(f"there is no bundled checkpoint {name!r}; bundled: {', '.join(found) or 'none'}")
    return found[name]


def resolve_checkpoint(name: str | Path) -> str | Path:
    """A bundled name or a folder -> its path; "owner/name" stays what it is, a hub id. Raises ValueError for anything else."""
    if isinstance(name, str) and name in bundled_checkpoints():
        return bundled_checkpoint(name)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} holds no config.json; expected a folder written by save_pretrained (a run's is <out>/final)")
        return path
    if isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        return name
    bundled = ", ".join(bundled_checkpoints()) or "none"
    raise ValueError(f"no model {str(name)!r}; expected a bundled name ({bundled}), a folder with config.json, or a hub id owner/name")


def checkpoint_anywhere(name: str | Path) -> str:
    """What other processes and machines call the same checkpoint: a bundled name or hub id as it is, a folder by its whole path.

    Raises ValueError as ``resolve_checkpoint`` does.
    """
    found = resolve_checkpoint(name)
    return str(name) if name in bundled_checkpoints() or isinstance(found, str) else str(found.resolve())


def _default_device() -> str:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if accelerator is None else accelerator.type


def _digest(array: np.ndarray) -> tuple[Any, ...]:
    """Equal for equal content (shape, type and bytes)."""
    return array.shape, array.dtype.str, hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()


# -------------------------------------------------------------------------------------------------------------------- questions
def _read_answer(question: _Question, said: _Said, seconds: float) -> Answer:
    """Return the answer in the region indices that the caller passed; the model counts regions in order of mention."""
    task = question.task
    short = None if said.field is None else task.read(question.text, said.field)
    if short is None:
        short = task.read(question.text, said.text)
    text = renumber_tags(task.renumber_field(said.text, question.numbers), question.numbers)
    return Answer(text, task.renumber(short, question.numbers), task.name, seconds, said.confidence)


def _readable_start(text: str, question: _Question) -> str:
    """An unfinished answer in the asker's counting, without a region's name, number or a character that is only begun."""
    text = text.rstrip("\ufffd")  # what an unfinished character is decoded to
    text = question.task.without_unfinished_field(text)
    begun = text.rfind("[")
    return renumber_tags(text if "]" in text[begun:] else text[:begun] if begun >= 0 else text, question.numbers)


def _telling(on_ids: Callable[[int, list[int]], None] | None, rows: torch.Tensor, prompt_length: int) -> list[Written]:
    if on_ids is None:
        return []
    numbers = rows.tolist()
    return [Written(len(numbers), prompt_length, lambda row, ids: on_ids(numbers[row], ids))]


def _probability(logs: Sequence[float]) -> float:
    return math.exp(min(0.0, sum(logs)))


# ---------------------------------------------------------------------------------------------------------------------- batches
def _question_of(sample: Sample) -> _Question:
    """What kind of answer is wanted is read from the words, as of anybody's question; a sample's own category is for scoring."""
    numbers = sample.metadata.get(REGION_NUMBERS, ())
    return _Question(sample.question, recognise(sample.question), sample.regions, numbers)


def _chunks(samples: Sequence[Sample], max_questions: int) -> Iterator[list[int]]:
    """Indices of samples in steps of whole images: up to ``IMAGES_PER_STEP`` images and about ``max_questions`` questions."""
    groups: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(sample.image_key, []).append(i)
    chunk: list[int] = []
    images = 0
    for group in groups.values():
        if chunk and (images == IMAGES_PER_STEP or len(chunk) + len(group) > max_questions):
            yield chunk
            chunk, images = [], 0
        chunk, images = chunk + group, images + 1
    if chunk:
        yield chunk


def _pad_rows(rows: list[list[int]]) -> torch.Tensor:
    """(Q, R) int64, -1 = padding."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
