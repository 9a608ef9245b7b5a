"""Greedy decoding: rows that have ended leave the batch, an answer field holds only what its category admits, and how sure the model was.

Legend: Q rows of a batch, T generated tokens so far, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import regex
import torch
from transformers import Cache, LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

from smolrgpt.tasks import FIELD_SEPARATOR
from smolrgpt.tasks.distance import OFFICIAL_TOLERANCE

#: Longest answer field in tokens, the end included: " 12.34" of a tokenizer that writes every character by itself.
MAX_FIELD_TOKENS = 8
#: Rows leave a batch once this share of it has ended: leaving copies what the others have read.
LEAVING_SHARE = 0.2
#: What ``generate`` hands on that has a row for every row of the batch.
ROW_INPUTS = ("attention_mask", "position_ids", "image_index", "region_index")


def greedy(
    model: Any,
    input_ids: torch.LongTensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: Any,
    **model_kwargs: Any,
) -> torch.LongTensor:
    """``generate(custom_generate=greedy)``: what its own greedy search writes, without computing rows that have ended.

    Logits processors that have ``keep(rows)`` are told which rows of their last call go on. Returns (Q, longest) int64, prompts included;
    what follows a row's end is padding.
    """
    total, pad = len(input_ids), generation_config._pad_token_tensor
    rows = torch.arange(total)  # which row of the whole batch each one here is
    ended = torch.zeros(total, dtype=torch.bool, device=input_ids.device)
    said: list[torch.Tensor] = [input_ids[0]] * total
    outputs = model._prefill(input_ids, generation_config, model_kwargs)
    while True:
        model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs, is_encoder_decoder=False)
        scores = outputs.logits[:, -1].float()
        del outputs
        for processor in logits_processor:  # the list itself looks up every processor's signature at every token
            scores = processor(input_ids, scores)
        chosen = torch.where(ended, pad, scores.argmax(-1)) if pad is not None else scores.argmax(-1)
        input_ids = torch.cat([input_ids, chosen[:, None]], dim=1)  # type: ignore[assignment]
        ended = ended | stopping_criteria(input_ids, None)  # type: ignore[arg-type]
        count = int(ended.sum())
        if count == len(rows) or count >= LEAVING_SHARE * len(rows):
            for row in ended.nonzero().flatten().tolist():
                said[int(rows[row])] = input_ids[row]
            going = (~ended).nonzero().flatten()
            if not len(going):
                break
            rows, input_ids, ended = rows[going.cpu()], input_ids[going], ended[going]  # type: ignore[assignment]
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
    return torch.nn.utils.rnn.pad_sequence(said, batch_first=True, padding_value=filler)  # type: ignore[return-value]


class FieldVocabulary:
    """Which tokens of a tokenizer may go on an answer field; what was asked once is remembered."""

    def __init__(self, tokenizer: Any, end: int):
        """end: id of the token that ends an answer. Raises ValueError when no token is the separator alone."""
        self.words = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
        self.end = end
        if FIELD_SEPARATOR not in self.words:
            raise ValueError(f"the tokenizer has no token {FIELD_SEPARATOR!r}, so no answer field can be told from what stands before it")
        self.separator = self.words.index(FIELD_SEPARATOR)
        self.digits = {i: int(word) for i, word in enumerate(self.words) if regex.fullmatch(" ?[0-9]", word)}
        self._candidates = {i: word for i, word in enumerate(self.words) if regex.fullmatch("[ a-z0-9.]+", word)}
        self._allowed: dict[tuple[str, str], list[int]] = {}

    def text(self, ids: Sequence[int]) -> str:
        """What ids say, one token after the other."""
        return "".join(self.words[i] for i in ids)

    def allowed(self, pattern: str, field: str) -> list[int]:
        """Ids after which ``field`` still begins something the pattern matches; the end, once it does."""
        if (pattern, field) not in self._allowed:
            begun = regex.compile(pattern)
            ids = [i for i, word in self._candidates.items() if begun.fullmatch(field + word, partial=True)]
            self._allowed[pattern, field] = ids + [self.end] * bool(begun.fullmatch(field))
        return self._allowed[pattern, field]


class AnswerField(LogitsProcessor):
    """Keeps the answer field of every row to its pattern, so that every answer can be read.

    Rows say what they like up to the last separator and cannot end before there is one, unless all they said is a field already. A row near
    ``max_new_tokens`` is made to write the separator, so that no answer is cut off.
    patterns: one per row, of ``Task.field_pattern``; None leaves a row alone. prompt_length: columns of the (padded) prompt.
    """

    def __init__(self, vocabulary: FieldVocabulary, patterns: Sequence[str | None], prompt_length: int, max_new_tokens: int):
        self.vocabulary, self.patterns, self.prompt_length = vocabulary, patterns, prompt_length
        self.last_call = max_new_tokens - MAX_FIELD_TOKENS - 1

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """scores: (Q, V), the next token's; what a row may not write becomes -inf."""
        kept, end = scores.clone(), self.vocabulary.end
        length = input_ids.shape[1] - self.prompt_length
        recent = input_ids[:, self.prompt_length + max(0, length - MAX_FIELD_TOKENS - 1) :].tolist()  # a field is never longer
        unfinished = []
        for row, (pattern, ids) in enumerate(zip(self.patterns, recent, strict=True)):
            if pattern is None or end in ids:
                continue
            text = self.vocabulary.text(ids)
            _, separator, field = text.rpartition(FIELD_SEPARATOR)
            if separator or length >= self.last_call:
                allowed = self.vocabulary.allowed(pattern, field) if separator else [self.vocabulary.separator]
                kept[row] = -torch.inf
                kept[row, allowed] = scores[row, allowed]
            elif length > MAX_FIELD_TOKENS or not regex.fullmatch(pattern, text):
                unfinished.append(row)
        kept[unfinished, end] = -torch.inf
        return kept  # type: ignore[return-value]

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on."""
        self.patterns = [self.patterns[row] for row in rows]


class Written(LogitsProcessor):
    """Tells, before every token but the first, what each row has written so far; changes nothing.

    told: called with the row's place in the whole batch and its ids (T,).
    """

    def __init__(self, num_rows: int, prompt_length: int, told: Callable[[int, list[int]], None]):
        self.rows, self.prompt_length, self.told = list(range(num_rows)), prompt_length, told

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """scores: (Q, V), returned as they are."""
        if input_ids.shape[1] > self.prompt_length:
            for row, ids in zip(self.rows, input_ids[:, self.prompt_length :].tolist(), strict=True):
                self.told(row, ids)
        return scores

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on."""
        self.rows = [self.rows[row] for row in rows]


class ChosenProbabilities(LogitsProcessor):
    """Records what greedy decoding thought of its choices. Goes last.

    chosen: one (Q,) a token, the log-probability of the token it chose; digits: one (Q, 10) a token, the probabilities of 0 to 9; both 0
    in rows that have left.
    digit_of: id -> the digit it writes.
    """

    def __init__(self, digit_of: Mapping[int, int] | None = None):
        self.ids, self.digit_of = list(digit_of or {}), torch.tensor(list((digit_of or {}).values()), dtype=torch.long)
        self.chosen: list[torch.Tensor] = []
        self.digits: list[torch.Tensor] = []
        self._rows: torch.Tensor | None = None  # the rows that are still there, once some have left

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """scores: (Q, V), returned as they are."""
        logs = scores.float().log_softmax(-1)
        written = logs[:, self.ids].exp()
        self.chosen.append(self._whole(logs.amax(-1)))
        self.digits.append(self._whole(written.new_zeros(len(logs), 10).index_add(1, self.digit_of.to(logs.device), written)))
        return scores

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on."""
        if self._rows is None:
            self._rows = torch.arange(len(self.chosen[0]), device=self.chosen[0].device)
        self._rows = self._rows[list(rows)]

    def _whole(self, values: torch.Tensor) -> torch.Tensor:
        """(rows that are there, ...) -> (Q, ...)."""
        if self._rows is None:
            return values
        return values.new_zeros(len(self.chosen[0]), *values.shape[1:]).index_copy(0, self._rows, values)


def distance_probability(text: str, chosen: Sequence[float], digits: Sequence[Sequence[float]]) -> float:
    """How probable the model found the distances for which ``text``, such as "4.8", would be right: all within 10 % of it.

    A number is left at one of its digits for another; where only some of the numbers behind that digit are near enough, their share counts.
    chosen: log-probabilities of the text's characters; digits: (characters, 10) probabilities of 0 to 9 in their places. Measured with it
    instead of the text's own probability, on 1,080 questions: expected calibration error 0.037 instead of 0.187.
    """
    low, high = (factor * float(text) for factor in OFFICIAL_TOLERANCE)
    total = math.exp(min(0.0, sum(chosen)))
    for place, character in enumerate(text):
        if not character.isdigit():
            continue
        so_far = math.exp(min(0.0, sum(chosen[:place])))
        for digit, probability in enumerate(digits[place]):
            if str(digit) == character:
                continue
            least = text[:place] + str(digit) + regex.sub(r"[0-9]", "0", text[place + 1 :])
            first, step = float(least), float(regex.sub(r"[0-9]", "0", text[:place]) + "1" + regex.sub(r"[0-9]", "0", text[place + 1 :]))
            inside = min(high, first + step) - max(low, first)
            total += so_far * probability * min(1.0, max(0.0, inside / step))
    return min(1.0, total)
