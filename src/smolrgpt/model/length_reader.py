"""SmolRGPTLengthReader: the lengths that the tokens of a text stand for, estimated, embedded and compared.

Legend: Q questions, T text tokens, R most regions of a question, L most given lengths, N regions, M pairs, D text width, F geometry
features, K region measures.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .configuration_smolrgpt import REGION_MEASURES, SmolRGPTConfig
from .estimates import (
    LogLength,
    SmolRGPTLengthComparer,
    SmolRGPTPairEstimator,
    SmolRGPTRegionEstimator,
    difference,
    horizontal_gap,
    laplace_loss,
)
from .region_embedding import RegionFeatures
from .text_lengths import DIFFERENCE, DISTANCE, GIVEN, NO_LENGTH, LengthIndex, index_lengths

_ELEVATION = REGION_MEASURES.index("elevation")


class SmolRGPTLengthReader(nn.Module):
    """Reads the length that every token of a text stands for, see `text_lengths`, and adds what it carries to the token's embedding."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__()
        self.config = config
        self.region_estimator = SmolRGPTRegionEstimator(config)
        self.pair_estimator = SmolRGPTPairEstimator(config)
        self.comparer = SmolRGPTLengthComparer(config)

    def forward(
        self,
        embeds: Tensor,
        context_ids: Tensor,
        region_features: RegionFeatures,
        region_index: Tensor,
        given_lengths: Tensor | None,
    ) -> Tensor:
        """Add to the embeddings (Q, T, D) of a text's last T tokens what the lengths carry that they stand for.

        The tokens of a pair carry the pair's embedding; all that stand for a length carry how it compares with the length before it.
        Estimates are compared, not trained, by the text's loss.

        Args:
            embeds: (Q, T, D).
            context_ids: (Q, T0 + T) ids of the text so far.
            region_features: of all regions.
            region_index: (Q, R) rows of the regions.
            given_lengths: (Q, L) logarithms of metres, NaN = padding.
        """
        count = embeds.shape[1]
        index = index_lengths(self.config, context_ids, region_index)
        here = index.last(count)
        lengths, rows, pairs = self._read(index, [here, index.at(here.previous)], region_features, given_lengths)
        row = rows[:, :count]
        embeds = embeds.index_put((row >= 0).nonzero(as_tuple=True), pairs[row[row >= 0]].to(embeds.dtype), accumulate=True)
        has_length = here.kind != NO_LENGTH
        log_ratio = (lengths.value[:, :count] - lengths.value[:, count:])[has_length].detach()
        compared = self.comparer(log_ratio).to(embeds.dtype)
        return embeds.index_put(has_length.nonzero(as_tuple=True), compared, accumulate=True)

    def read(
        self, input_ids: Tensor, region_features: RegionFeatures, region_index: Tensor, given_lengths: Tensor | None = None
    ) -> LogLength:
        """Return the length that each token of whole texts (Q, T) stands for: logarithms of metres, NaN where it stands for none."""
        index = index_lengths(self.config, input_ids, region_index)
        return self._read(index, [index], region_features, given_lengths)[0]

    def _read(
        self, text: LengthIndex, parts: list[LengthIndex], features: RegionFeatures, given_lengths: Tensor | None
    ) -> tuple[LogLength, Tensor, Tensor]:
        """Estimate the lengths (Q, T) of parts of a text, one after the other, and the differences among them.

        Returns what ``_read_simple`` returns.
        """
        index = parts[0].joined_with(*parts[1:])
        if not (index.kind == DIFFERENCE).any():
            return self._read_simple(index, features, given_lengths)
        operands = [text.at(position) for position in index.differences()]
        count = index.kind.shape[1]
        lengths, rows, pairs = self._read_simple(index.joined_with(*operands), features, given_lengths)
        gap = difference(lengths[:, count : 2 * count], lengths[:, 2 * count :])
        return LogLength.where(index.kind == DIFFERENCE, gap, lengths[:, :count]), rows[:, :count], pairs

    def _read_simple(self, index: LengthIndex, features: RegionFeatures, given_lengths: Tensor | None) -> tuple[LogLength, Tensor, Tensor]:
        """Estimate lengths (Q, T) that are no differences.

        Returns the lengths, NaN where there is none; for each the row, or -1, of its pair in a table of unique pairs; the embeddings of
        those pairs (M, D).
        """
        value = torch.full(index.kind.shape, torch.nan, device=index.kind.device)
        spread = torch.zeros_like(value)
        if given_lengths is not None and given_lengths.shape[1]:
            given = given_lengths.float().gather(1, index.first.clamp(0, given_lengths.shape[1] - 1))
            value = torch.where(index.kind == GIVEN, given, value)
        of_region = LogLength(cast(Tensor, features.log_sizes), cast(Tensor, features.log_spreads))
        is_region = (index.kind >= 0) & (index.kind < DISTANCE)
        is_pair = index.kind >= DISTANCE
        pairs, row = torch.stack([index.first[is_pair], index.second[is_pair]], 1).unique(dim=0, return_inverse=True)
        of_pair, embedded = self._measure_pairs(pairs, features, of_region)
        for chosen, found in (
            (is_region, of_region[index.second[is_region], index.kind[is_region]]),
            (is_pair, of_pair[row, index.kind[is_pair] - DISTANCE]),
        ):
            where = chosen.nonzero(as_tuple=True)
            value, spread = value.index_put(where, found.value), spread.index_put(where, found.spread)
        return LogLength(value, spread), torch.full_like(index.kind, -1).masked_scatter(is_pair, row), embedded

    def _measure_pairs(self, pairs: Tensor, features: RegionFeatures, of_region: LogLength) -> tuple[LogLength, Tensor]:
        """Return the lengths (M, PAIR_MEASURES) and the embeddings (M, D) of pairs (M, 2), rows of the region table."""
        a, b = pairs.unbind(1)
        embedded, distance = self.pair_estimator(pairs, features)
        vertical = difference(of_region[a, _ELEVATION], of_region[b, _ELEVATION])
        measures = (distance, vertical, horizontal_gap(distance, vertical))  # in the order of PAIR_MEASURES
        return LogLength(torch.stack([m.value for m in measures], 1), torch.stack([m.spread for m in measures], 1)), embedded

    def losses(
        self,
        features: RegionFeatures,
        pair_index: Tensor | None,
        pair_distance: Tensor | None,
        size_index: Tensor | None,
        region_size: Tensor | None,
    ) -> dict[str, Tensor | None]:
        """Return the losses of the estimates, where their targets are known; see `SmolRGPTTargets`."""
        losses: dict[str, Tensor | None] = {}
        if pair_index is not None and pair_distance is not None:
            losses["distance_loss"] = laplace_loss(self.pair_estimator(pair_index, features)[1], pair_distance)
        if size_index is not None and region_size is not None and features.log_sizes is not None and features.log_spreads is not None:
            count = region_size.shape[1]  # the other measures are not known
            sizes = LogLength(features.log_sizes[size_index, :count], features.log_spreads[size_index, :count])
            losses["size_loss"] = laplace_loss(sizes, region_size)
        return losses


__all__ = ["SmolRGPTLengthReader"]
