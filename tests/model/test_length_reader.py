"""Lengths that are copied from estimates: what each token stands for, the same at any scale, and learned by their own loss only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from tiny_batches import COPIED, IMAGE_KEYS, NAMES, without

from smolrgpt.model import SmolRGPTImageProcessor
from smolrgpt.model.estimates import LogLength, difference, horizontal_gap, laplace_loss, mask_overlaps, probability_within
from smolrgpt.model.region_geometry import LOG_UNIT, feature_names
from smolrgpt.model.text_lengths import DISTANCE, GIVEN, NO_LENGTH, index_lengths

WIDTH, HEIGHT, UP, LENGTH, GIVEN_ID, MINUS, WORD = 6, 7, 8, 14, 15, 13, 30
A, B, C = NAMES[:3]
FEATURES = list(feature_names("range"))


def test_every_token_stands_for_the_length_that_its_text_names(tiny_config) -> None:
    """Pairs, words after names and given lengths start a length; the next name or given length ends it."""
    config = tiny_config(**COPIED)
    text = torch.tensor([[WORD, GIVEN_ID, WORD, A, B, WORD, A, C, UP, WORD, A, WORD, A, WIDTH, WORD, B, HEIGHT, LENGTH]])
    found = index_lengths(config, text, torch.tensor([[5, 3, 9]]))
    none, distance, vertical = NO_LENGTH, DISTANCE, DISTANCE + 1
    kinds = [none, GIVEN, GIVEN, none, distance, distance, none, distance, vertical, vertical, none, none, none, 0, 0, none, 1, 1]
    assert found.kind[0].tolist() == kinds
    is_pair = found.kind[0] >= DISTANCE
    assert torch.stack([found.first[0], found.second[0]], 1)[is_pair].tolist() == [[5, 3], [5, 3], [5, 9], [5, 9], [5, 9]]
    assert found.second[0, -1] == 3
    starts = {4: 2, 7: 5, 8: 5, 13: 11, 16: 14}  # where the previous length was last in force, before the names of this one
    previous = found.previous[0]
    assert {position: int(previous[position]) for position in starts} == {4: 2, 7: 5, 8: 5, 13: 9, 16: 14}
    assert (previous[found.kind[0] == none] == -1).all()


def scene(scale: float) -> dict[str, np.ndarray]:
    """A floor and two boxes before a wall, all lengths times a scale, as the processor reads them."""
    rows = np.mgrid[0:120, 0:160][0].astype(np.float64)
    camera = (140.0, 140.0, 79.5, 59.5, 160, 120)
    depth = np.minimum(1.2 * 140.0 / np.maximum(rows - 59.5, 1e-6), 6.0)
    depth = np.where(rows <= 60, 6.0, depth)
    masks = np.zeros((2, 120, 160), dtype=bool)
    for mask, (top, bottom, left, right, distance) in zip(masks, ((62, 95, 30, 60, 4.0), (66, 100, 100, 125, 3.5)), strict=True):
        mask[top:bottom, left:right] = True
        depth[mask] = distance
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    processor = SmolRGPTImageProcessor(size=32, grid_size=8, depth_encoding="ranks", length_unit="range")
    return processor.preprocess_image(image, (scale * depth).astype(np.float32), "metric", list(masks), camera)


@pytest.mark.parametrize("scale", [0.03, 0.5, 4.0, 10.0])
def test_a_scene_of_any_scale_looks_the_same_but_for_its_unit(scale: float) -> None:
    """Geometry, floor and encoded depth do not depend on the scale; the unit does."""
    whole, scaled = scene(1.0), scene(scale)
    assert (whole["region_geometry"][:, FEATURES.index("has_floor")] == 1).all()
    unit = FEATURES.index(LOG_UNIT)
    shift = np.zeros(len(FEATURES))
    shift[unit] = np.log(scale)
    np.testing.assert_allclose(scaled["region_geometry"], whole["region_geometry"] + shift, atol=2e-4)
    np.testing.assert_allclose(scaled["depth_values"], whole["depth_values"], atol=0.02)


def read(model, batch, text, given=None):
    """The embeddings of a text, and the lengths of its tokens."""
    features = model.encode(**{name: batch[name] for name in IMAGE_KEYS}).region_features
    index = torch.tensor([[3, 1]])
    embeds = model.merge(text, None, features, None, index, True, text, given)
    return embeds, model.length_reader.read(text, features, index, given)


def test_a_larger_scene_has_larger_lengths_and_the_same_text(tiny_model, tiny_batch) -> None:
    """Where every unit grows by a factor, estimates grow by it, and what the language model reads stays as it is."""
    model = tiny_model(**COPIED).model
    for parameter in model.length_reader.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # estimates that correct what is measured
    batch = tiny_batch(model.config)
    for name in ("has_depth", "is_metric", "has_camera", "has_floor"):
        batch["region_geometry"][:, FEATURES.index(name)] = 1.0
    text = torch.tensor([[A, B, WORD, A, HEIGHT, LENGTH, B, HEIGHT, A, B, UP, LENGTH]])
    embeds, lengths = read(model, batch, text)
    batch["region_geometry"][:, -1] += np.log(7.0)
    larger, longer = read(model, batch, text)
    torch.testing.assert_close(larger, embeds, rtol=1e-4, atol=1e-5)
    known = ~lengths.value.isnan()
    torch.testing.assert_close(longer.value[known], lengths.value[known] + np.log(7.0), rtol=1e-4, atol=1e-4)
    assert (~known[0]).nonzero().flatten().tolist() == [0, 3, 6, 8]  # names that begin something else


def test_a_text_that_is_generated_reads_its_lengths_like_a_whole_text(tiny_model, tiny_batch) -> None:
    model = tiny_model(**COPIED).model
    batch = tiny_batch(model.config)
    given = torch.tensor([[1.5]]).log()
    text = torch.tensor([[WORD, GIVEN_ID, A, B, LENGTH, B, HEIGHT, A, HEIGHT, LENGTH, GIVEN_ID, B, A, WORD]])
    whole, lengths = read(model, batch, text, given)
    features = model.encode(**{name: batch[name] for name in IMAGE_KEYS}).region_features
    for start in range(1, text.shape[1]):
        part = model.merge(text[:, start:], None, features, None, torch.tensor([[3, 1]]), True, text, given)
        torch.testing.assert_close(part, whole[:, start:])
    torch.testing.assert_close(lengths.value[0, 1], given[0, 0])
    other = read(model, batch, text, given + 1)[0]
    changed = (other != whole).any(-1)[0].nonzero().flatten().tolist()
    assert changed == [3, 4, 10, 12, 13]  # what is compared with the given length, and it with the height before it


def test_a_difference_is_that_of_the_two_lengths_before_it(tiny_model, tiny_batch) -> None:
    """Of any two lengths, also a given one; without two lengths before it the word stands for none."""
    model = tiny_model(**COPIED).model
    batch, given = tiny_batch(model.config), torch.tensor([[9.0]]).log()
    text = torch.tensor([[B, HEIGHT, LENGTH, A, HEIGHT, MINUS, WORD, LENGTH, A, B, GIVEN_ID, MINUS, A, B, MINUS, WORD, A, MINUS]])
    value = read(model, batch, text, given)[1].value.exp()[0]
    for position, (first, second) in {5: (1, 4), 6: (1, 4), 7: (1, 4), 11: (9, 10), 14: (10, 13), 15: (10, 13)}.items():
        assert value[position].item() == pytest.approx(abs((value[first] - value[second]).item()), rel=1e-4)
    assert value[17].isnan() and value[8].isnan()


def test_an_untrained_estimate_is_what_was_measured(tiny_model) -> None:
    model = tiny_model(**COPIED).model
    arrays = {name: torch.from_numpy(array) for name, array in scene(0.25).items()}
    features = model.encode(
        arrays["pixel_values"][None], arrays["depth_values"][None], arrays["region_masks"], None, arrays["region_geometry"]
    )
    text = torch.tensor([[A, B, LENGTH, A, HEIGHT]])
    lengths = model.length_reader.read(text, features.region_features, torch.tensor([[0, 1]])).value.detach().exp()[0]
    middles = np.array([[(44.5 - 79.5) / 140 * 4, (78 - 59.5) / 140 * 4, 4], [(112 - 79.5) / 140 * 3.5, (82.5 - 59.5) / 140 * 3.5, 3.5]])
    assert lengths[1] == pytest.approx(0.25 * np.linalg.norm(middles[0] - middles[1]), rel=0.02)
    top = 1.2 - (62 - 59.5) / 140 * 4
    assert lengths[4] == pytest.approx(0.25 * top, rel=0.05)


@pytest.mark.slow
def test_lengths_are_learned_by_their_own_loss_alone(tiny_model, tiny_batch) -> None:
    """The text's loss changes no estimate; training on known lengths makes them right, and their spread small."""
    model = tiny_model(**COPIED).train()
    batch = tiny_batch(model.config)
    nan = float("nan")
    targets = {
        "pair_index": torch.tensor([[0, 2], [3, 1]]),
        "pair_distance": torch.tensor([0.04, 20.0]),
        "size_index": torch.tensor([4, 1]),
        "region_size": torch.tensor([[0.05, 1.5, nan], [12.0, nan, 0.7]]),
    }
    model(**batch).loss.backward()
    reader = model.model.length_reader
    assert reader.pair_estimator.distance_out.weight.grad is None and reader.region_estimator.out.weight.grad is None
    optimizer = torch.optim.Adam(reader.parameters(), lr=3e-3)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 3e-3 if step < 250 else 3e-4
        optimizer.zero_grad()
        output = model(**batch, **targets)
        (output.distance_loss + output.size_loss).backward()
        optimizer.step()
    text = torch.tensor([[NAMES[0], NAMES[1]]])
    features = model(**batch).region_features
    for row, metres in zip(targets["pair_index"], targets["pair_distance"], strict=True):
        found = model.model.length_reader.read(text, features, row[None])
        assert found.value[0, 1].exp().item() == pytest.approx(metres.item(), rel=0.1) and found.spread[0, 1] < 0.1
    known = ~targets["region_size"].isnan()
    sizes = features.log_sizes[targets["size_index"]][:, :3].exp()
    torch.testing.assert_close(sizes[known], targets["region_size"][known], rtol=0.1, atol=0.0)


def test_the_likeliest_spread_is_the_mean_error() -> None:
    """Of many errors, the loss is least at their mean; and the probability of being right is the share of errors that small."""
    random = np.random.default_rng(0)
    errors = torch.from_numpy(random.laplace(scale=0.1, size=20_000)).float()
    metres = torch.full_like(errors, 2.0)
    losses = {s: laplace_loss(LogLength(metres.log() + errors, torch.full_like(errors, s)), metres) for s in (0.07, 0.1, 0.14)}
    assert min(losses, key=losses.get) == 0.1
    assert probability_within(0.1, 1.1) == pytest.approx((errors.abs() <= np.log(1.1)).float().mean().item(), abs=0.01)
    assert laplace_loss(LogLength(metres, metres), torch.full_like(metres, float("nan"))) is None


def test_masks_that_lie_in_each_other_overlap_by_their_shares() -> None:
    small, large = torch.zeros(1, 16), torch.zeros(1, 16)
    large[0, :8], small[0, 6:10] = 1.0, 0.5
    torch.testing.assert_close(mask_overlaps(small, large), torch.tensor([[0.5, 0.125]]))
    assert mask_overlaps(torch.zeros(1, 16), large).tolist() == [[0.0, 0.0]]


def test_gaps_are_the_sides_of_a_right_angled_triangle() -> None:
    high, low, spread = torch.tensor([5.0]), torch.tensor([2.0]), torch.tensor([0.02])
    vertical = difference(LogLength(high.log(), spread), LogLength(low.log(), spread))
    across = horizontal_gap(LogLength(torch.tensor([5.0]).log(), spread), vertical)
    assert vertical.value.exp().item() == pytest.approx(3.0) and across.value.exp().item() == pytest.approx(4.0)
    assert vertical.spread.item() > 0.02  # a difference is less sure than what it is the difference of


def test_without_the_ids_it_needs_no_model_copies(tiny_config) -> None:
    for name in ("length_token_id", "given_token_id", "size_word_ids", "geometry_dim"):
        with pytest.raises(StrictDataclassClassValidationError, match="copies_lengths needs"):
            tiny_config(**without(COPIED, name))
