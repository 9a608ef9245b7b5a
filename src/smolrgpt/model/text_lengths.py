"""Which length every token of a text stands for, and which length came before it, for models that copy lengths.

In a text, two adjacent region names stand for the distance of their objects; a word of `measure_word_ids` right after a name (or after two)
for that length of the region (or pair); the token for a given length for that length; the word "difference" for the difference of the two
lengths before it. A length lasts until the next name or given length.
Everything is computed from token ids, so that it is the same for a whole text and for one that is being generated.

Legend: Q questions, T text tokens, R most regions of a question, L most given lengths, K region measures.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import cast

import torch
from torch import Tensor

from .configuration_smolrgpt import PAIR_MEASURES, REGION_MEASURES, SmolRGPTConfig
from .region_names import latest_regions, latest_size_words, named_regions

#: Kinds of length that are neither a region measure (0 to K - 1) nor a pair measure (K and above).
NO_LENGTH, GIVEN, DIFFERENCE = -1, -2, -3
_K = len(REGION_MEASURES)
DISTANCE = _K


@dataclass(frozen=True)
class LengthIndex:
    """The length that each token stands for, as indices; all int64 of shape (Q, T).

    Attributes:
        kind: a column of `REGION_MEASURES`; K + position in `PAIR_MEASURES`; `GIVEN`; `DIFFERENCE`; or `NO_LENGTH`.
        first: row of the region table: the pair's first region; of `GIVEN`, the position among the question's given lengths; of
            `DIFFERENCE`, the position in the text of a token that stands for its first length.
        second: row of the region table: the pair's second region, or the only one; of `DIFFERENCE`, as first.
        previous: position in the text of a token that stands for the length before this one, -1 where there is none.
    """

    kind: Tensor
    first: Tensor
    second: Tensor
    previous: Tensor

    def at(self, position: Tensor) -> LengthIndex:
        """Return the lengths at text positions (Q, T'); no length where the position is -1."""
        safe = position.clamp(min=0)
        kind, first, second, previous = (x.gather(1, safe) for x in (self.kind, self.first, self.second, self.previous))
        return LengthIndex(torch.where(position >= 0, kind, NO_LENGTH), first, second, previous)

    def joined_with(self, *others: LengthIndex) -> LengthIndex:
        """Return these lengths (Q, T) followed by others (Q, T')."""
        names = [field.name for field in fields(self)]
        return LengthIndex(*(torch.cat([getattr(index, name) for index in (self, *others)], 1) for name in names))

    def differences(self) -> tuple[Tensor, Tensor]:
        """Return the text positions (Q, T) of the two lengths of each `DIFFERENCE`, -1 elsewhere."""
        is_difference = self.kind == DIFFERENCE
        return torch.where(is_difference, self.first, -1), torch.where(is_difference, self.second, -1)

    def last(self, count: int) -> LengthIndex:
        """Return the lengths of the last tokens of the text; `previous` still counts from its start."""
        return LengthIndex(*(x[:, -count:] for x in (self.kind, self.first, self.second, self.previous)))


def index_lengths(config: SmolRGPTConfig, input_ids: Tensor, region_index: Tensor) -> LengthIndex:
    """Find the length that each token (Q, T) stands for; ``region_index`` (Q, R) are the questions' rows of the region table."""
    region = named_regions(config, input_ids, region_index)  # (Q, T)
    before, latest = latest_regions(region)
    word = latest_size_words(input_ids, region, config.measure_word_ids)
    is_pair = before >= 0
    of_pair = torch.where(word >= _K, word + 1, DISTANCE)  # the first pair measure, the distance, has no word
    of_region = torch.where((word >= 0) & (word < _K), word, NO_LENGTH)
    kind = torch.where(is_pair & ((word < 0) | (word >= _K)), of_pair, of_region)

    position = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    is_given = input_ids.eq(cast(int, config.given_token_id))
    name_at = torch.where(region >= 0, position, -1).cummax(1).values
    given_at = torch.where(is_given, position, -1).cummax(1).values
    is_given_latest = given_at > name_at
    kind = torch.where(is_given_latest, GIVEN, kind)
    first = torch.where(is_given_latest, is_given.cumsum(1) - 1, before)

    difference_at = torch.where(input_ids == config.difference_word_id, position, -1).cummax(1).values
    operand = torch.where(difference_at > torch.maximum(name_at, given_at), difference_at - 1, -1)
    is_difference = operand >= 0

    # the names (or the given length) that this length is about start here; the previous length is the last one before them
    start = torch.where(is_given_latest, given_at, name_at - is_pair.long())
    has_length = torch.where((kind != NO_LENGTH) & ~is_difference, position, -1).cummax(1).values
    previous = torch.where(start >= 1, has_length.gather(1, (start - 1).clamp(min=0)), -1)
    previous = torch.where(kind == NO_LENGTH, -1, previous)
    second = torch.where(is_difference, previous.gather(1, operand.clamp(min=0)), latest)
    return LengthIndex(
        torch.where(is_difference, DIFFERENCE, kind),
        torch.where(is_difference, operand, first),
        second,
        torch.where(is_difference, -1, previous),
    )


__all__ = ["DIFFERENCE", "DISTANCE", "GIVEN", "NO_LENGTH", "PAIR_MEASURES", "LengthIndex", "index_lengths"]
