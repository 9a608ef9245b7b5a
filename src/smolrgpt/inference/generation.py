"""Greedy decoding of many prompts: ended rows leave the batch, answer fields keep to what their kind of question admits, confidence.

Legend: Q rows of a batch, R regions of a question, T generated tokens so far, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import regex
import torch
from transformers import Cache, DynamicCache, LogitsProcessor, LogitsProcessorList

from smolrgpt.inference.answer_kinds import AnswerKinds
from smolrgpt.inference.image_cache import PrefixCache
from smolrgpt.inference.inputs import Question
from smolrgpt.model.estimates import probability_within
from smolrgpt.model.processing_smolrgpt import LENGTH_TOKEN, TURN_END, pad_lengths
from smolrgpt.tasks import FIELD_SEPARATOR, Task
from smolrgpt.tasks.cannot_tell import CANNOT_TELL, REFUSAL
from smolrgpt.tasks.distance import OFFICIAL_TOLERANCE
from smolrgpt.tasks.given_lengths import write_metres

#: Longest answer field in tokens, the end included: " 12.34" of a tokenizer that writes every character as a token.
MAX_FIELD_TOKENS = 8
#: The same of a model that writes fields of all kinds ("12 o'clock", "in front of"), and of the words before the field of a refusal.
MAX_ANY_FIELD_TOKENS, MAX_REFUSAL_TOKENS = 16, 12
#: Text of a length that is copied from nothing; no rule reads it.
UNKNOWN_LENGTH = "unknown"
#: Rows leave a batch once this share of it has ended: leaving copies the cache of the rows that go on.
LEAVING_SHARE = 0.2
#: Arguments of ``generate`` with a row for every row of the batch.
ROW_INPUTS = ("attention_mask", "position_ids", "image_index", "region_index", "given_lengths")
#: Keys and values of the rows answered together on a CPU, in bytes: some fifteen rows of the published model, which two cores answer as
#: fast as thirty-two; a hundred of nano's.
CPU_MEMORY_BUDGET = 128_000_000
#: Length of an answer in tokens that the memory budget counts with.
TYPICAL_ANSWER_TOKENS = 32

#: Called with a row and its token ids so far.
OnTokens = Callable[[int, list[int]], None]


class Generated(NamedTuple):
    """A generated answer.

    Attributes:
        text: Of the answer.
        confidence: The model's probability of it, 0 to 1.
        field: Its answer field, for a model that writes one.
        num_tokens: Tokens that were generated, the end included.
        task: The kind of the answer where the model's text decides it; None: the kind of the question.
    """

    text: str
    confidence: float
    field: str | None
    num_tokens: int = 0
    task: Task | None = None


@dataclass(frozen=True)
class PromptBatch:
    """Everything the language model needs of Q questions besides their text.

    Attributes:
        features: ``image_embeds`` and ``region_features``, as the model takes them; empty for a model without images.
        prefix: cache of the prompts' common start, of each image.
        image_index: (Q,) int64 into the images; None for a model without images.
        region_index: (Q, R) int64 into the regions, -1 = padding; None for a model without images.
    """

    features: dict[str, Any]
    prefix: PrefixCache
    image_index: torch.Tensor | None = None
    region_index: torch.Tensor | None = None


class AnswerGenerator:
    """Generates greedy answers to questions about encoded images, in batches that fit the memory."""

    def __init__(self, model: Any, processor: Any):
        self.model, self.processor = model, processor
        self.end_id = processor.tokenizer.convert_tokens_to_ids(TURN_END)
        pad = processor.tokenizer.pad_token_id
        self.pad_id = self.end_id if pad is None else pad
        self.copies_lengths = bool(getattr(processor, "copies_lengths", False))
        self.kinds = AnswerKinds(self.copies_lengths)
        self.kinds_from_text = bool(getattr(processor, "kinds_from_text", False)) and processor.answer_field
        self.vocabulary = FieldVocabulary(processor.tokenizer, self.end_id) if processor.answer_field else None

    @torch.inference_mode()
    def generate(
        self,
        questions: Sequence[Question],
        batch: PromptBatch,
        max_new_tokens: int,
        batch_size: int,
        on_tokens: OnTokens | None = None,
    ) -> list[Generated]:
        """Answer every question, at most ``batch_size`` together; every row goes on from the prefix of its image.

        Rows of similar length go together, so that there is little padding, which stands between a row's prefix and the rest of it.
        on_tokens: called as answers grow.
        """
        prefix_length = len(self.processor.prompt_start)
        lengths = torch.tensor([len(question.input_ids) - prefix_length for question in questions])
        generated: dict[int, Generated] = {}
        for rows in self.batches(lengths, batch.prefix, batch_size):
            numbers = rows.tolist()
            callback = None if on_tokens is None else lambda row, ids, numbers=numbers: on_tokens(numbers[row], ids)
            answers = self._generate_batch([questions[row] for row in numbers], rows, batch, max_new_tokens, callback)
            generated |= zip(numbers, answers, strict=True)
        return [generated[row] for row in range(len(questions))]

    def _generate_batch(
        self, questions: list[Question], rows: torch.Tensor, batch: PromptBatch, max_new_tokens: int, on_tokens: OnTokens | None
    ) -> list[Generated]:
        """Answer the questions in these ``rows`` of the batch together."""
        device = self.model.device
        input_ids, attention_mask = self._pad(questions)
        length = input_ids.shape[1]
        images = (torch.zeros_like(rows) if batch.image_index is None else batch.image_index[rows]).to(device)
        pointers = {"image_index": batch.image_index, "region_index": batch.region_index}
        pointers = {name: tensor[rows].to(device) for name, tensor in pointers.items() if tensor is not None}
        if self.copies_lengths:
            pointers["given_lengths"] = torch.from_numpy(pad_lengths([question.given_lengths for question in questions])).to(device)
        recorder = LogprobRecorder(self.vocabulary.digits if self.vocabulary else None)
        processors: list[LogitsProcessor] = [recorder]
        if on_tokens is not None:
            processors.insert(0, StreamingCallback(len(rows), length, on_tokens))
        if self.vocabulary is not None:
            patterns = [self._field_pattern(question) for question in questions]
            refusal = CANNOT_TELL.field_pattern(0) if self.kinds_from_text else None
            processors.insert(0, AnswerFieldConstraint(self.vocabulary, patterns, length, max_new_tokens, refusal))
        outputs = self.model.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            **pointers,
            **batch.features,
            past_key_values=DynamicCache([(keys[images], values[images]) for keys, values in batch.prefix]),
            custom_generate=greedy_search,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.end_id,
            pad_token_id=self.pad_id,
            logits_processor=LogitsProcessorList(processors),
        )
        chosen, digits = (torch.stack(steps, dim=1).tolist() for steps in (recorder.chosen, recorder.digits))  # (Q, T), (Q, T, 10)
        ids = outputs[:, length:].tolist()
        if not self.copies_lengths:
            return [self.decode_row(*row) for row in zip(questions, ids, chosen, digits, strict=True)]
        region_features = batch.features["region_features"]
        copied = self.model.model.length_reader.read(outputs, region_features, pointers["region_index"], pointers["given_lengths"])
        values, spreads = copied.value[:, length:].exp().tolist(), copied.spread[:, length:].tolist()
        return [self.decode_copies(*row) for row in zip(questions, ids, chosen, values, spreads, strict=True)]

    def _field_pattern(self, question: Question) -> str | None:
        if self.kinds_from_text:
            return self.kinds.any_field_pattern(len(question.regions))
        return self.kinds.field_pattern(question.task, len(question.regions))

    def _kind(self, question: Question, text: str) -> Task | None:
        """Return the kind of an answer text with its length tokens; None where the words of the question decide it."""
        return self.kinds.kind_of(text, question.task, len(question.regions)) if self.kinds_from_text else None

    def _pad(self, questions: Sequence[Question]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return input ids and attention mask (Q, T) of prompts, padded between their common start and the rest."""
        start = self.processor.prompt_start
        rests = [question.input_ids[len(start) :] for question in questions]
        width = max(map(len, rests))
        ids = [[*start, *[self.pad_id] * (width - len(rest)), *rest] for rest in rests]
        mask = [[*[1] * len(start), *[0] * (width - len(rest)), *[1] * len(rest)] for rest in rests]
        return torch.tensor(ids), torch.tensor(mask)

    def batches(self, lengths: torch.Tensor, prefix: PrefixCache, batch_size: int) -> Iterator[torch.Tensor]:
        """Yield rows to answer together, the longest first, at most as many as fit the memory budget.

        lengths: (Q,) of the prompts without their prefix.
        """
        prefix_length = prefix[0][0].shape[2]
        token_bytes = sum(keys[0].nbytes + values[0].nbytes for keys, values in prefix) / prefix_length
        memory_budget = CPU_MEMORY_BUDGET / token_bytes if self.model.device.type == "cpu" else math.inf  # in tokens
        most_rows = min(batch_size, getattr(self.model, "most_rows", batch_size))
        order = lengths.argsort(descending=True, stable=True)
        while len(order):
            fitting = memory_budget / (prefix_length + int(lengths[order[0]]) + TYPICAL_ANSWER_TOKENS)
            count = max(1, int(min(fitting, most_rows)))
            yield order[:count]
            order = order[count:]

    def decode_row(self, question: Question, ids: list[int], chosen: list[float], digits: list[list[float]]) -> Generated:
        """Decode a row's ids (T,); chosen (T,) and digits (T, 10): as ``LogprobRecorder`` recorded them."""
        text, length = self.processor.post_process(ids), ids.index(self.end_id) if self.end_id in ids else len(ids)
        count = min(length + 1, len(ids))
        if self.vocabulary is None:
            return Generated(text, _probability(chosen[:count]), None, count)
        field, found = text.rpartition(FIELD_SEPARATOR)[2].strip(), self._kind(question, text)
        start = length - len(field)
        if not (found or question.task).is_length or self.vocabulary.text(ids[start:length]).strip() != field:
            return Generated(text, _probability(chosen[:count]), field, count, found)
        probability = length_probability(field, chosen[start:length], digits[start:length])
        return Generated(text, _probability(chosen[:start]) * probability, field, count, found)

    def decode_copies(
        self, question: Question, ids: list[int], chosen: list[float], metres: list[float], spreads: list[float]
    ) -> Generated:
        """Decode a row's ids (T,), with the length that each token stands for in place of each length token.

        chosen (T,): log-probabilities; metres (T,), spreads (T,): of ``SmolRGPTLengthReader.read``. The answer is right where the text is,
        and where a length that is the answer is within the official tolerance.
        """
        end = ids.index(self.end_id) if self.end_id in ids else len(ids)
        text = self.processor.post_process(ids)
        found = self._kind(question, text)
        probability = _probability(chosen[: end + 1])
        for position in range(end):
            if ids[position] == self.model.config.length_token_id:
                known = not math.isnan(metres[position])  # a text may have the token where it stands for nothing
                text = text.replace(LENGTH_TOKEN, write_metres(metres[position]) if known else UNKNOWN_LENGTH, 1)
                if (found or question.task).is_length and position == end - 1:
                    probability *= probability_within(spreads[position], OFFICIAL_TOLERANCE[1]) if known else 0.0
        field = text.rpartition(FIELD_SEPARATOR)[2].strip() if self.vocabulary is not None else None
        return Generated(text, probability, field, min(end + 1, len(ids)), found)


def _probability(logprobs: Sequence[float]) -> float:
    return math.exp(min(0.0, sum(logprobs)))


def greedy_search(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Sequence[Callable[..., torch.Tensor]],
    stopping_criteria: Callable[..., torch.Tensor],
    generation_config: Any,
    **model_kwargs: Any,
) -> torch.Tensor:
    """Do the greedy search of ``generate`` (as its ``custom_generate``) without computing rows that have ended.

    ``keep(rows)`` is called on logits processors that have it, with the rows of their last call that go on. Returns (Q, longest) int64,
    prompts included; a row's end is followed by padding.
    """
    total, pad = len(input_ids), generation_config._pad_token_tensor
    rows = torch.arange(total)  # position in the whole batch of each row that is left
    ended = torch.zeros(total, dtype=torch.bool, device=input_ids.device)
    finished: list[torch.Tensor] = [input_ids[0]] * total
    outputs = model._prefill(input_ids, generation_config, model_kwargs)
    while True:
        model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs, is_encoder_decoder=False)
        scores = outputs.logits[:, -1].float()
        del outputs
        for processor in logits_processor:  # the list itself looks up every processor's signature at every token
            scores = processor(input_ids, scores)
        chosen = torch.where(ended, pad, scores.argmax(-1)) if pad is not None else scores.argmax(-1)
        input_ids = torch.cat([input_ids, chosen[:, None]], dim=1)
        ended = ended | stopping_criteria(input_ids, None)
        count = int(ended.sum())
        if count == len(rows) or count >= LEAVING_SHARE * len(rows):
            for row in ended.nonzero().flatten().tolist():
                finished[int(rows[row])] = input_ids[row]
            going = (~ended).nonzero().flatten()
            if not len(going):
                break
            rows, input_ids, ended = rows[going.cpu()], input_ids[going], ended[going]
            cache: Cache = model_kwargs["past_key_values"]
            cache.batch_select_indices(going)
            for name in ROW_INPUTS:
                if model_kwargs.get(name) is not None and len(model_kwargs[name]) != 1:
                    model_kwargs[name] = model_kwargs[name][going]
            for processor in logits_processor:
                if hasattr(processor, "keep"):
                    processor.keep(going.tolist())
        inputs = model.prepare_inputs_for_generation(input_ids, next_sequence_length=1, **model_kwargs)
        outputs = model(**inputs, return_dict=True)
    filler = 0 if pad is None else int(pad)
    return torch.nn.utils.rnn.pad_sequence(finished, batch_first=True, padding_value=filler)


class FieldVocabulary:
    """The tokens of a tokenizer that may continue an answer field; computed once for each field."""

    def __init__(self, tokenizer: Any, end: int):
        """Take the id of the token that ends an answer. Raises ValueError when no token is the separator alone."""
        self.words = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
        self.end = end
        if FIELD_SEPARATOR not in self.words:
            raise ValueError(f"the tokenizer has no token {FIELD_SEPARATOR!r}, so an answer field cannot be recognised")
        self.separator = self.words.index(FIELD_SEPARATOR)
        self.digits = {i: int(word) for i, word in enumerate(self.words) if regex.fullmatch(" ?[0-9]", word)}
        self._candidates = {
            i: word for i, word in enumerate(self.words) if regex.fullmatch(rf"[ a-z0-9.']+|{regex.escape(LENGTH_TOKEN)}", word)
        }
        self._allowed: dict[tuple[str, str], list[int]] = {}

    def text(self, ids: Sequence[int]) -> str:
        """Decode ids, one token after the other."""
        return "".join(self.words[i] for i in ids)

    def allowed(self, pattern: str, field: str) -> list[int]:
        """Return the ids after which ``field`` is still the start of a match of the pattern; the end as well, once it is a match."""
        if (pattern, field) not in self._allowed:
            compiled = regex.compile(pattern)
            ids = [i for i, word in self._candidates.items() if compiled.fullmatch(field + word, partial=True)]
            self._allowed[pattern, field] = ids + [self.end] * bool(compiled.fullmatch(field))
        return self._allowed[pattern, field]


class AnswerFieldConstraint(LogitsProcessor):
    """Keeps the answer field of every row to its pattern, so that every answer can be read.

    Rows are free up to the last separator and cannot end before there is one, unless the whole answer is a field already. A row near
    ``max_new_tokens`` has to write the separator, so that no answer is cut off.
    patterns: one per row, as of ``Task.field_pattern``; None leaves a row free. prompt_length: columns of the (padded) prompt.
    refusal: the pattern of the field after "cannot tell", for a model that refuses; then patterns are those of all kinds.
    """

    def __init__(
        self,
        vocabulary: FieldVocabulary,
        patterns: Sequence[str | None],
        prompt_length: int,
        max_new_tokens: int,
        refusal: str | None = None,
    ):
        self.vocabulary, self.patterns, self.prompt_length, self.refusal = vocabulary, patterns, prompt_length, refusal
        self.field_tokens = MAX_FIELD_TOKENS if refusal is None else MAX_ANY_FIELD_TOKENS
        self.last_call = max_new_tokens - self.field_tokens - 1
        self.recent_tokens = self.field_tokens + 1 + (0 if refusal is None else MAX_REFUSAL_TOKENS)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.FloatTensor:
        """Set the scores (Q, V) of tokens that a row may not write to -inf."""
        kept, end = scores.clone(), self.vocabulary.end
        length = input_ids.shape[1] - self.prompt_length
        recent = input_ids[:, self.prompt_length + max(0, length - self.recent_tokens) :].tolist()  # a field is never longer
        unfinished = []
        for row, (pattern, ids) in enumerate(zip(self.patterns, recent, strict=True)):
            if pattern is None or end in ids:
                continue
            text = self.vocabulary.text(ids)
            steps, separator, field = text.rpartition(FIELD_SEPARATOR)
            if self.refusal is not None and steps.strip() == REFUSAL:
                pattern = self.refusal
            if separator or length >= self.last_call:
                allowed = self.vocabulary.allowed(pattern, field) if separator else [self.vocabulary.separator]
                kept[row] = -torch.inf
                kept[row, allowed] = scores[row, allowed]
            elif length > self.field_tokens or not regex.fullmatch(pattern, text):
                unfinished.append(row)
        kept[unfinished, end] = -torch.inf
        return cast(torch.FloatTensor, kept)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        self.patterns = [self.patterns[row] for row in rows]


class StreamingCallback(LogitsProcessor):
    """Calls ``on_tokens`` with each row's ids (T,) before every token but the first; changes nothing."""

    def __init__(self, num_rows: int, prompt_length: int, on_tokens: OnTokens):
        self.rows, self.prompt_length, self.on_tokens = list(range(num_rows)), prompt_length, on_tokens

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return the scores (Q, V) unchanged."""
        if input_ids.shape[1] > self.prompt_length:
            for row, ids in zip(self.rows, input_ids[:, self.prompt_length :].tolist(), strict=True):
                self.on_tokens(row, ids)
        return scores

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        self.rows = [self.rows[row] for row in rows]


class LogprobRecorder(LogitsProcessor):
    """Records the probabilities of what greedy decoding chose; the last of the logits processors.

    Attributes:
        chosen: for each step (Q,), the log-probability of the chosen token; 0 in rows that have left.
        digits: for each step (Q, 10), the probabilities of the digits 0 to 9; 0 in rows that have left.
    """

    def __init__(self, digit_of: Mapping[int, int] | None = None):
        """Take the digit that each token id writes."""
        self.ids, self.digit_of = list(digit_of or {}), torch.tensor(list((digit_of or {}).values()), dtype=torch.long)
        self.chosen: list[torch.Tensor] = []
        self.digits: list[torch.Tensor] = []
        self._rows: torch.Tensor | None = None  # the rows that are left, once some have ended

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return the scores (Q, V) unchanged."""
        logprobs = scores.float().log_softmax(-1)
        digits = logprobs[:, self.ids].exp()
        self.chosen.append(self._all_rows(logprobs.amax(-1)))
        self.digits.append(self._all_rows(digits.new_zeros(len(digits), 10).index_add(1, self.digit_of.to(digits.device), digits)))
        return scores

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        if self._rows is None:
            self._rows = torch.arange(len(self.chosen[0]), device=self.chosen[0].device)
        self._rows = self._rows[list(rows)]

    def _all_rows(self, values: torch.Tensor) -> torch.Tensor:
        """Spread values of the rows that are left over all rows: (Q, ...)."""
        if self._rows is None:
            return values
        return values.new_zeros(len(self.chosen[0]), *values.shape[1:]).index_copy(0, self._rows, values)


def length_probability(text: str, chosen: Sequence[float], digits: Sequence[Sequence[float]]) -> float:
    """Return the probability (0 to 1) of all lengths for which ``text``, such as "4.8", would be right: those within 10 % of it.

    Numbers that differ from ``text`` first at one of its digits are taken together; where only some of them are within 10 %, their share
    counts. chosen: log-probabilities of the text's characters; digits: (characters, 10) probabilities of 0 to 9 at their positions.
    Measured on 1,080 questions: expected calibration error 0.037, against 0.187 of the text's own probability.
    """
    low, high = (factor * float(text) for factor in OFFICIAL_TOLERANCE)
    total = _probability(chosen)
    for position, character in enumerate(text):
        if not character.isdigit():
            continue
        zeros = regex.sub(r"[0-9]", "0", text[position + 1 :])
        step = float(regex.sub(r"[0-9]", "0", text[:position]) + "1" + zeros)
        for digit, probability in enumerate(digits[position]):
            if str(digit) != character:
                least = float(text[:position] + str(digit) + zeros)
                inside = min(high, least + step) - max(low, least)
                total += _probability(chosen[:position]) * probability * min(1.0, max(0.0, inside / step))
    return min(1.0, total)
