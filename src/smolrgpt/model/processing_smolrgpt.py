"""Questions and images -> the model's batch: unique images, a table of unique regions, questions that point at both.

Legend: Q questions, I unique images, N regions of all images, T tokens, R most regions in a question, S input size, G refiner grid,
F geometry features.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken
from transformers import AutoTokenizer
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import load_image
from transformers.processing_utils import ProcessorMixin

from .configuration_smolrgpt import PAIR_SIZES, REGION_SIZES, SmolRGPTConfig
from .image_processing_smolrgpt import SmolRGPTImageProcessor
from .region_geometry import CameraTuple, feature_names

#: Placeholder of a region in a question, and image markers of data sets (dropped: the processor places the image tokens).
REGION_PLACEHOLDER = "<mask>"
IMAGE_PLACEHOLDERS = ("<image>\n", "\n<image>", "<image>")

IMAGE_TOKEN = "<|image|>"
#: How answers name a question's regions; the index counts from 0.
REGION_NAME = "[Region {}]"
#: Regions with a name of one token, ``[Region 0]`` on: twice as many as any official question has.
NUM_REGION_NAMES = 32
REGION_TOKENS = {"rgb": "<mask_rgb>", "depth": "<mask_depth>", "geo": "<mask_geo>"}
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
IGNORE_INDEX = -100
#: Tokenised pieces of text kept in memory; training tokenises the same ones millions of times.
MAX_CACHED_SEGMENTS = 65_536

#: For display and tools. Tokenised input never goes through rendered text, so that text cannot become a placeholder.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|image|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def add_region_names(tokenizer: Any) -> list[int]:
    """Add ``[Region 0]``, ``[Region 1]``, ... to a tokenizer where they are missing; returns their ids."""
    names = [REGION_NAME.format(i) for i in range(NUM_REGION_NAMES)]
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in names])
    return [int(i) for i in tokenizer.convert_tokens_to_ids(names)]


#: Length -> the word that introduces it in an answer, after the name of its region or pair: "[Region 0] height: 1.29",
#: "[Region 0][Region 1] up: 0.45". The model recognises a word by its first token. Names as in ``configuration_smolrgpt.REGION_SIZES``
#: and ``PAIR_SIZES``.
SIZE_WORDS = {"width": " width", "height": " height", "vertical": " up"}
#: The same for models that copy lengths: names as in ``configuration_smolrgpt.REGION_MEASURES`` and ``PAIR_MEASURES``.
MEASURE_WORDS = {**SIZE_WORDS, "elevation": " elevation", "size": " size", "range": " range", "horizontal": " across"}
MEASURE_WORDS |= {"difference": " difference"}
#: In an answer: a length that is copied from the estimate it follows. In a question: a length that is given as a number.
LENGTH_TOKEN, GIVEN_TOKEN = "[Length]", "[Given]"
#: Placeholder of a given length in a question.
LENGTH_PLACEHOLDER = "<length>"


def add_length_tokens(tokenizer: Any) -> dict[str, Any]:
    """Add the tokens of a model that copies lengths to a tokenizer; returns the fields of `SmolRGPTConfig` that name them."""
    words = {name: tokenizer(word, add_special_tokens=False).input_ids for name, word in MEASURE_WORDS.items()}
    missing = [MEASURE_WORDS[name] for name, ids in words.items() if len(ids) != 1]
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (LENGTH_TOKEN, GIVEN_TOKEN, *missing)])
    return {
        "length_token_id": int(tokenizer.convert_tokens_to_ids(LENGTH_TOKEN)),
        "given_token_id": int(tokenizer.convert_tokens_to_ids(GIVEN_TOKEN)),
        "size_word_ids": {name: int(tokenizer(word, add_special_tokens=False).input_ids[0]) for name, word in MEASURE_WORDS.items()},
        "geometry_dim": len(feature_names("range")),
    }


def extend_vocabulary(tokenizer: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a tokenizer the tokens that a model with these `SmolRGPTConfig` fields reads: placeholders first, then region names.

    Returns the fields, completed with the tokens' ids and the size of the vocabulary.
    """
    kinds = tuple(config.get("region_tokens", ("rgb", "depth")))
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN, *(REGION_TOKENS[kind] for kind in kinds)]})
    fields: dict[str, Any] = {}
    if config.get("region_fusion") == "name":
        fields["region_name_token_ids"] = add_region_names(tokenizer)
    if config.get("estimates_sizes"):
        sizes = (*REGION_SIZES, *(PAIR_SIZES if config.get("pair_geometry") else ()))
        fields["size_word_ids"] = {size: int(tokenizer(SIZE_WORDS[size], add_special_tokens=False).input_ids[0]) for size in sizes}
    if config.get("copies_lengths"):
        fields |= add_length_tokens(tokenizer)
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    return {
        **config,
        "image_token_id": int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)),
        "region_token_ids": {kind: int(tokenizer.convert_tokens_to_ids(REGION_TOKENS[kind])) for kind in kinds},
        "text_config": {**config.get("text_config", {}), "vocab_size": len(tokenizer), **ids},
        **fields,
        **ids,
    }


class SmolRGPTProcessor(ProcessorMixin):
    r"""Image processor and tokenizer in one.

    The prompt is

        <|im_start|>user\n <|image|> x P, question with each <mask> as [Region i] <mask_rgb> <mask_depth> <mask_geo> <|im_end|>\n
        <|im_start|>assistant\n answer <|im_end|>\n

    Args:
        image_processor: a `SmolRGPTImageProcessor`.
        tokenizer: a tokenizer with all special tokens.
        region_tokens: kinds of token that represent a region, in this order (of "rgb", "depth", "geo"; may be empty).
        region_labels: whether to write ``[Region i]``, the form answers use, before each region's tokens (i counts the question's regions
            from 0).
        num_image_tokens: P; 0 for a blind model.
        region_fusion: "tokens", or "name" to write a region as ``[Region i]`` alone, the token that then carries its features.
        copies_lengths: whether lengths in an answer are copied from estimates and lengths in a question are given as numbers.
        answer_field: whether the model was trained to end its answers with ": " and the normalised answer alone.
        kinds_from_text: whether the model was trained to recognise what is asked, so that its text decides the kind of the answer.
        min_confidence: kind of question -> the confidence (0 to 1) below which an answer is withheld as not certain enough.
        chat_template: for display and tools.

    Raises:
        ValueError: for an unknown kind, or when the tokenizer lacks a token that is needed.
    """

    def __init__(  # noqa: PLR0913 (what a processor's configuration file may hold)
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        region_tokens: Sequence[str] = ("rgb", "depth"),
        region_labels: bool = False,
        num_image_tokens: int = 64,
        region_fusion: str = "tokens",
        answer_field: bool = False,
        copies_lengths: bool = False,
        chat_template: str | None = None,
        kinds_from_text: bool = False,
        min_confidence: Mapping[str, float] | None = None,
    ):
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)
        unknown = [name for name in region_tokens if name not in REGION_TOKENS]
        if unknown:
            raise ValueError(f"region_tokens has {unknown}; expected names of {list(REGION_TOKENS)}")
        if region_fusion not in ("tokens", "name"):
            raise ValueError(f"region_fusion is {region_fusion!r}; expected 'tokens' or 'name'")
        self.region_fusion, self.answer_field, self.copies_lengths = region_fusion, answer_field, copies_lengths
        self.kinds_from_text, self.min_confidence = kinds_from_text, dict(min_confidence or {})
        self.region_tokens, self.region_labels, self.num_image_tokens = tuple(region_tokens), region_labels, num_image_tokens
        self.image_token = IMAGE_TOKEN
        self.image_token_id = self._token_id(IMAGE_TOKEN) if num_image_tokens else None
        self.region_token_ids = {name: self._token_id(REGION_TOKENS[name]) for name in self.region_tokens}
        self._turn_start, self._turn_end = self._token_id(TURN_START), self._token_id(TURN_END)
        names = itertools.takewhile(self._has_token, map(REGION_NAME.format, itertools.count()))
        self.num_region_names = sum(1 for _ in names) if region_fusion == "name" else None
        self._segments: dict[str, list[int]] = {}

    @classmethod
    def for_model(cls, config: SmolRGPTConfig, tokenizer: Any, **options: Any) -> SmolRGPTProcessor:
        """Build the processor that fits a model: sizes and token counts follow from its configuration, options set the rest.

        options: arguments of `SmolRGPTProcessor`, and of `SmolRGPTImageProcessor` mask_resize, depth_encoding, image_mean, image_std.
        """
        image_options: dict[str, Any] = {"length_unit": "range" if config.copies_lengths else "fixed"}
        image_options |= {k: options.pop(k) for k in ("mask_resize", "depth_encoding", "image_mean", "image_std") if k in options}
        image_processor = SmolRGPTImageProcessor(size=config.vision_config.image_size, grid_size=config.grid_size, **image_options)
        defaults = {
            "region_tokens": tuple(config.region_tokens),
            "num_image_tokens": config.num_image_tokens,
            "region_fusion": config.region_fusion,
            "copies_lengths": config.copies_lengths,
        }
        return cls(image_processor, tokenizer, **{**defaults, **options})

    @classmethod
    def from_backbones(cls, vision: str, text: str, config: SmolRGPTConfig, **options: Any) -> SmolRGPTProcessor:
        """Build the processor of a model made by `SmolRGPTForConditionalGeneration.from_backbones`.

        Its tokenizer is the language model's with the placeholders added; images are normalised as for the tower's training.

        Args:
            vision: as given to the model.
            text: as given to the model.
            config: of the model.
            options: see `for_model`.

        Raises:
            ValueError: when the tower's folder does not define its normalisation.
        """
        tokenizer = AutoTokenizer.from_pretrained(text, padding_side="left")
        extend_vocabulary(tokenizer, {name: getattr(config, name) for name in ("region_tokens", "region_fusion", "copies_lengths")})
        try:
            found, _ = SmolRGPTImageProcessor.get_image_processor_dict(vision)
        except OSError as error:
            raise ValueError(
                f"{vision} has no preprocessor_config.json, so how its images are normalised is unknown; "
                "save one there, for example with AutoImageProcessor.save_pretrained"
            ) from error
        return cls.for_model(config, tokenizer, **{"image_mean": found["image_mean"], "image_std": found["image_std"], **options})

    def _has_token(self, token: str) -> bool:
        index = self.tokenizer.convert_tokens_to_ids(token)
        return index is not None and self.tokenizer.convert_ids_to_tokens(index) == token

    def _token_id(self, token: str) -> int:
        if not self._has_token(token):
            raise ValueError(
                f"the tokenizer has no token {token!r}; add it with tokenizer.add_special_tokens({{'additional_special_tokens': [...]}})"
            )
        return int(self.tokenizer.convert_tokens_to_ids(token))

    @property
    def is_blind(self) -> bool:
        """True when nothing of the image reaches the model: no image tokens and no region tokens."""
        return not self.num_image_tokens and not self.region_tokens

    # ------------------------------------------------------------------------------------------------------------------- text
    @property
    def prompt_start(self) -> list[int]:
        """The ids that every question about an image begins with: the turn and the image tokens."""
        image = [] if self.image_token_id is None else [self.image_token_id] * self.num_image_tokens
        return [self._turn_start, *self._tokenize("user\n"), *image]

    def encode_text(
        self,
        question: str,
        num_regions: int,
        answer: str | None = None,
        with_image: bool = True,
        given_lengths: Sequence[float] = (),
        first_region: int = 0,
    ) -> dict[str, list[int]]:
        r"""Convert one question (and answer) to ``input_ids`` and ``labels`` of the same length.

        The prompt's labels are -100; with an answer its tokens and ``<|im_end|>\n`` are both input and label. Special tokens written in
        the question or the answer are plain text.

        Args:
            question: with one ``<mask>`` per region.
            num_regions: regions of the question.
            answer: for training.
            with_image: whether the prompt has image tokens.
            given_lengths: in metres, one for each ``<length>`` of the question; they are returned as ``given_lengths``.
            first_region: the k of the first region's name ``[Region k]``; the question's rows of ``region_index`` have as many -1 before
                them.

        Raises:
            ValueError: when the question's ``<mask>`` are not ``num_regions``, or are more than the model has names for.
        """
        if given_lengths:
            question = question.replace(LENGTH_PLACEHOLDER, GIVEN_TOKEN)
        pieces = self._without_image_marker(question).split(REGION_PLACEHOLDER)
        if len(pieces) - 1 != num_regions:
            raise ValueError(
                f"the question has {len(pieces) - 1} {REGION_PLACEHOLDER} but {num_regions} regions were given; expected one region per "
                f"placeholder, in order: {question[:80]!r}"
            )
        if self.num_region_names is not None and first_region + num_regions > self.num_region_names:
            raise ValueError(f"the question has {num_regions} regions, this model has names for {self.num_region_names}; ask about fewer")
        ids = self.prompt_start if with_image else [self._turn_start, *self._tokenize("user\n")]
        named = self.region_fusion == "name"
        region_ids, text = [] if named else list(self.region_token_ids.values()), pieces[0]
        for index, piece in enumerate(pieces[1:], first_region):
            text += REGION_NAME.format(index) if named or self.region_labels else ""
            if region_ids:
                ids += self._tokenize(text)
                ids += region_ids
                text = piece
            else:
                text += piece
        ids += self._tokenize(text)
        ids += [self._turn_end, *self._tokenize("\n"), self._turn_start, *self._tokenize("assistant\n")]
        given: dict[str, Any] = {"given_lengths": list(given_lengths)} if given_lengths else {}
        if answer is None:
            return {"input_ids": ids, "labels": [IGNORE_INDEX] * len(ids), **given}
        reply = [*self._tokenize(answer), self._turn_end, *self._tokenize("\n")]
        return {"input_ids": ids + reply, "labels": [IGNORE_INDEX] * len(ids) + reply, **given}

    @staticmethod
    def _without_image_marker(question: str) -> str:
        for marker in IMAGE_PLACEHOLDERS:
            question = question.replace(marker, "")
        return question

    def _tokenize(self, text: str) -> list[int]:
        """Convert plain text to ids; special tokens in it are plain text, too. Do not change the list: it is cached."""
        ids = self._segments.get(text)
        if ids is None:
            valid = text.encode("utf-8", "replace").decode("utf-8")  # JSON can hold half a surrogate pair, which cannot be encoded
            ids = self.tokenizer(valid, add_special_tokens=False, split_special_tokens=True)["input_ids"] if text else []
            if len(self._segments) >= MAX_CACHED_SEGMENTS:
                self._segments.clear()
            self._segments[text] = ids
        return ids

    def post_process(self, ids: Sequence[int] | np.ndarray | torch.Tensor) -> str:
        """Convert generated ids (T,) to the answer: up to the first ``<|im_end|>``, no special tokens, no outer whitespace."""
        tokens = [int(i) for i in ids]
        if self._turn_end in tokens:
            tokens = tokens[: tokens.index(self._turn_end)]
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    # ------------------------------------------------------------------------------------------------------------------ batch
    def collate(
        self,
        images: Sequence[dict[str, np.ndarray]],
        texts: Sequence[dict[str, list[int]]],
        image_index: Sequence[int],
        region_index: Sequence[Sequence[int]],
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Join prepared images and encoded questions into a batch.

        Args:
            images: from ``SmolRGPTImageProcessor.preprocess_image``.
            texts: from ``encode_text``.
            image_index: each question's image.
            region_index: each question's regions, as rows of its own image's region table; -1 for a name that stands for no region.
            return_tensors: "pt" or "np".

        Returns:
            input_ids, attention_mask, labels (Q, T) int64, left padded (labels only when there is an answer); image_index (Q,) int64;
            region_index (Q, R) int64 rows of all regions, -1 = padding; pixel_values, depth_values (I, 3, S, S), region_masks (N, G, G),
            region_geometry (N, F) float32; region_image_index (N,) int64. Without images, or for a blind model, only the text keys.

        Raises:
            ValueError: for an index outside its table.
        """
        batch = self._pad_texts(texts)
        if images and not self.is_blind:
            batch |= _stack_images(images) | _point_at(images, image_index, region_index, len(texts))
        elif any(region_index) and not self.is_blind:
            raise ValueError("questions point at regions but no image was given")
        if return_tensors == "np":
            return BatchFeature(batch)
        return BatchFeature({name: torch.from_numpy(array) for name, array in batch.items()})

    def _pad_texts(self, texts: Sequence[dict[str, list[int]]]) -> dict[str, np.ndarray]:
        length = max(len(text["input_ids"]) for text in texts)
        shape = (len(texts), length)
        pad = self.tokenizer.pad_token_id
        batch = {
            "input_ids": np.full(shape, self._turn_end if pad is None else pad, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
            "labels": np.full(shape, IGNORE_INDEX, dtype=np.int64),
        }
        for row, text in enumerate(texts):
            start = length - len(text["input_ids"])
            batch["input_ids"][row, start:] = text["input_ids"]
            batch["attention_mask"][row, start:] = 1
            batch["labels"][row, start:] = text["labels"]
        if self.copies_lengths:
            batch["given_lengths"] = pad_lengths([text.get("given_lengths", ()) for text in texts])
        if (batch["labels"] == IGNORE_INDEX).all():
            del batch["labels"]
        return batch

    def __call__(  # noqa: PLR0913
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        depths: Any = None,
        depth_kinds: str | Sequence[str | None] | None = None,
        cameras: CameraTuple | Sequence[CameraTuple | None] | None = None,
        regions: Sequence[Any] | None = None,
        image_index: Sequence[int] | None = None,
        region_index: Sequence[Sequence[int]] | None = None,
        answers: str | Sequence[str | None] | None = None,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Convert images, depth, regions and questions to the batch of ``collate``.

        Args:
            images: an image or a list of I.
            text: a question or a list of Q.
            depths: an array, or I of them or None.
            depth_kinds: "metric" or "relative", one for all or one each.
            cameras: (fx, fy, cx, cy, width, height), one for all or one each.
            regions: a list of masks per image (for a single image: a list of masks).
            image_index: (Q); by default one question per image, or the single image for all.
            region_index: (Q) lists of rows of the image's regions; by default all of them in order.
            answers: for training.
            return_tensors: "pt" or "np".
            kwargs: ignored; the library passes its own options.
        """
        questions = _as_list(text)
        if not questions:
            raise ValueError("no text was given; expected a question or a list of questions")
        single = images is not None and not isinstance(images, (list, tuple))
        listed = [image for item in _as_list(images) for image in _as_list(item)]
        count = len(listed)
        tables = _per_image("regions", [regions] if single and regions is not None else regions, count, [])
        prepared = [
            self.image_processor.preprocess_image(image, depth, kind, masks, camera)
            for image, depth, kind, masks, camera in zip(
                listed,
                _per_image("depths", [depths] if isinstance(depths, np.ndarray) and depths.ndim == 2 else depths, count, None),
                _per_image("depth_kinds", [depth_kinds] * count if isinstance(depth_kinds, str) else depth_kinds, count, None),
                tables,
                _per_image("cameras", [cameras] * count if _is_camera(cameras) else cameras, count, None),
                strict=True,
            )
        ]
        image_index = _default_image_index(len(questions), count) if image_index is None else image_index
        if region_index is None:
            region_index = [list(range(len(tables[image]))) if 0 <= image < count else [] for image in image_index]
        replies = [None] * len(questions) if answers is None else _as_list(answers)
        texts = [
            self.encode_text(question, len(rows), answer, bool(count))
            for question, rows, answer in zip(questions, region_index, replies, strict=True)
        ]
        return self.collate(prepared, texts, image_index, region_index, return_tensors)

    def apply_chat_template(self, conversation: Any, *args: Any, tokenize: bool = False, return_dict: bool = False, **kwargs: Any) -> Any:
        """Convert conversations to prompts or, with ``tokenize``, to a batch: each a user turn (and an assistant turn as answer).

        Contents are text or a list of {"type": "image", "image" | "path" | "url": ...} and {"type": "text", "text": ...}; ``depths``,
        ``regions`` and the like are passed in ``processor_kwargs``. The prompt ends where the assistant starts unless there is an answer.
        """
        if not tokenize:
            return super().apply_chat_template(conversation, *args, **kwargs)
        batched = bool(conversation) and isinstance(conversation[0], (list, tuple))
        turns = [_read_conversation(item) for item in (conversation if batched else [conversation])]
        options = dict(kwargs.get("processor_kwargs") or {})
        options.pop("return_tensors", None)
        answers = [answer for _, answer, _ in turns]
        batch = self(
            images=[image for *_, images in turns for image in images] or None,
            text=[question for question, *_ in turns],
            answers=answers if any(answer is not None for answer in answers) else None,
            **options,
        )
        return batch if return_dict else batch["input_ids"]

    @property
    def model_input_names(self) -> list[str]:
        """Names of the batch's tensors, without labels."""
        indices = ["image_index", "region_index", "region_image_index", *(["given_lengths"] if self.copies_lengths else [])]
        return ["input_ids", "attention_mask", *self.image_processor.model_input_names, *indices]


def pad_lengths(metres: Sequence[Sequence[float]]) -> np.ndarray:
    """Return lengths in metres of Q questions as logarithms (Q, L) float32, NaN = padding."""
    padded = np.full((len(metres), max(map(len, metres), default=0)), np.nan, dtype=np.float32)
    for row, lengths in enumerate(metres):
        padded[row, : len(lengths)] = np.log(lengths) if len(lengths) else ()
    return padded


def _stack_images(images: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Stack the arrays of I prepared images and join their region tables."""
    counts = [len(image["region_masks"]) for image in images]
    batch = {name: np.stack([image[name] for image in images]) for name in ("pixel_values", "depth_values")}
    batch |= {name: np.concatenate([image[name] for image in images]) for name in ("region_masks", "region_geometry")}
    batch["region_image_index"] = np.repeat(np.arange(len(images)), counts).astype(np.int64)
    return batch


def _point_at(
    images: Sequence[dict[str, np.ndarray]], image_index: Sequence[int], region_index: Sequence[Sequence[int]], num_questions: int
) -> dict[str, np.ndarray]:
    """Return each question's image (Q,) and rows (Q, R) of the joined region table, -1 = padding."""
    if len(image_index) != num_questions or len(region_index) != num_questions:
        raise ValueError(
            f"{num_questions} questions, but image_index has {len(image_index)} and region_index {len(region_index)} entries; "
            "expected one of each per question"
        )
    counts = [len(image["region_masks"]) for image in images]
    offsets = np.cumsum([0, *counts])
    joined = np.full((num_questions, max(map(len, region_index), default=0)), -1, dtype=np.int64)
    for question, (image, rows) in enumerate(zip(image_index, region_index, strict=True)):
        if not 0 <= image < len(images):
            raise ValueError(f"question {question} points at image {image}; the batch has {len(images)} images")
        if rows and not -1 <= min(rows) <= max(rows) < counts[image]:
            raise ValueError(f"question {question} points at regions {list(rows)}; image {image} has {counts[image]} regions")
        joined[question, : len(rows)] = [row + offsets[image] if row >= 0 else -1 for row in rows]
    return {"image_index": np.asarray(image_index, dtype=np.int64), "region_index": joined}


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _is_camera(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 6 and all(isinstance(number, (int, float)) for number in value)


def _per_image(name: str, values: Sequence[Any] | None, count: int, default: Any) -> list[Any]:
    if values is None:
        return [default] * count
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} entries for {count} images; expected one per image")
    return [default if value is None else value for value in values]


def _default_image_index(num_questions: int, num_images: int) -> list[int]:
    if num_images in (0, 1):
        return [0] * num_questions
    if num_images != num_questions:
        raise ValueError(f"{num_questions} questions about {num_images} images; give image_index, the image of each question")
    return list(range(num_questions))


def _read_conversation(messages: Sequence[dict[str, Any]]) -> tuple[str, str | None, list[Image.Image]]:
    """Split a conversation into question, answer or None, images. Raises ValueError unless it is a user turn (and an assistant turn)."""
    roles = [message["role"] for message in messages]
    if roles not in (["user"], ["user", "assistant"]):
        raise ValueError(f"the conversation has roles {roles}; expected one user turn, optionally followed by one assistant turn")
    parts = [[{"type": "text", "text": m["content"]}] if isinstance(m["content"], str) else m["content"] for m in messages]
    sources = [part.get("image", part.get("path", part.get("url"))) for part in parts[0] if part["type"] == "image"]
    images = [load_image(source) for source in sources if source is not None]
    question, *answer = ("".join(part["text"] for part in turn if part["type"] == "text") for turn in parts)
    return question, answer[0] if answer else None, images


__all__ = ["SmolRGPTProcessor"]
