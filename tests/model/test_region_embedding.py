"""Laws of what is pooled from regions and added where their names stand."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from tiny_batches import CLOSE, IMAGE_KEYS, MEASURED, NAMED, NAMES, PAIRED, VERTICAL, prompts, question, without

from smolrgpt.model import REGION_GEOMETRY_FEATURES, RegionFeatures
from smolrgpt.model.region_embedding import digit_features, pool_masks, visible_log_distance, visible_log_sizes
from smolrgpt.train.config import LossWeights
from smolrgpt.train.losses import total_loss


# -------------------------------------------------------------------------------------------------------------------- names
def test_a_name_carries_its_region_wherever_it_stands(tiny_model, tiny_batch) -> None:
    model = tiny_model(**NAMED)
    batch = tiny_batch(model.config)
    vectors = {kind: torch.full((5, 24), 10.0**i) * torch.arange(5.0)[:, None] for i, kind in enumerate(("rgb", "depth", "geo"))}
    table = RegionFeatures(vectors)
    ids = batch["input_ids"].clone()
    ids[0, -2:] = torch.tensor([41, 47])  # in the answer too; the eighth name has no region
    merged = model.model.merge(ids, torch.zeros(2, 4, 24), table, batch["image_index"], batch["region_index"])
    added = (merged - model.get_input_embeddings()(ids))[:, :, 0].masked_fill(ids == 60, 0)
    assert added[0][added[0] != 0].tolist() == pytest.approx([333, 111, 111], abs=0.1)
    assert added[1][added[1] != 0].tolist() == pytest.approx([444], abs=0.1)
    assert not added[2].any()


def test_a_region_without_its_name_is_an_error(tiny_model, tiny_batch) -> None:
    model = tiny_model(**NAMED)
    batch = tiny_batch(model.config)
    with pytest.raises(ValueError, match="sample 1: 1 'name' region placeholders in the text, 2 regions given"):
        model(**{**batch, "region_index": torch.tensor([[3, 1], [4, 2], [-1, -1]])})


@torch.no_grad()
def test_what_a_name_in_the_answer_carries_reaches_the_next_word(tiny_model, tiny_batch) -> None:
    """Two runs whose regions differ only after the prompt was read."""
    model = tiny_model(**NAMED)
    batch = question(prompts(tiny_batch(model.config)), 0)
    features = model.encode(**{key: batch[key] for key in IMAGE_KEYS})
    prompt = model(**without(batch, *IMAGE_KEYS), image_embeds=features.image_embeds, region_features=features.region_features)
    step = {"input_ids": torch.tensor([[40]]), "region_index": batch["region_index"]}

    def next_word(region_features):
        cache = copy.deepcopy(prompt.past_key_values)
        return model(**step, region_features=region_features, past_key_values=cache).logits

    changed = RegionFeatures({kind: value + 1 for kind, value in features.region_features.tokens.items()})
    assert not torch.allclose(next_word(features.region_features), next_word(changed))


@torch.no_grad()
def test_two_names_side_by_side_carry_their_pair(tiny_model, tiny_batch) -> None:
    """The second of two adjacent names and the words up to the next name differ with its partner; the words before may be cached."""
    model = tiny_model(**PAIRED).model
    batch = tiny_batch(model.config)
    embeds = model.encode(**{key: batch[key] for key in IMAGE_KEYS}).region_features
    index = torch.tensor([[3, 1]])

    def last(*ids, cached=0):
        context = torch.tensor([ids])
        return model.merge(context[:, cached:], None, embeds, None, index, True, context)[0, -1]

    assert not torch.allclose(last(40, 41), last(41, 41)) and not torch.allclose(last(40, 41, 5, 6), last(41, 41, 5, 6))
    assert torch.equal(last(40, 5, 41), last(41, 5, 41)) and torch.equal(last(40, 41, 5, 41, 6), last(41, 40, 5, 41, 6))
    assert torch.equal(last(5, 6), last(6)) and torch.equal(last(40, 5, 6), last(6))
    for words in ((40, 41), (40, 41, 5), (40, 41, 5, 40), (5, 6)):
        assert torch.equal(last(*words, cached=len(words) - 1), last(*words))


def test_the_distance_of_a_pair_is_the_distance_of_the_middles() -> None:
    names = list(REGION_GEOMETRY_FEATURES)
    one, two = torch.zeros(2, 1, len(names))
    for geometry in (one, two):
        geometry[:, [names.index(name) for name in ("has_depth", "is_metric", "has_camera")]] = 1
    two[:, [names.index("x_m"), names.index("z_m")]] = torch.tensor([0.3, 0.4])  # 3 and 4 metres
    assert visible_log_distance(one, two).item() == pytest.approx(math.log(0.5))
    two[:, names.index("is_metric")] = 0
    assert visible_log_distance(one, two).item() == 0


def test_digit_features_tell_every_digit_apart() -> None:
    """A digit's two features lie on a circle: equal digits stand together whatever the other digits are."""
    one, other = (digit_features(torch.tensor([metres]).log())[0] for metres in (3.44, 17.44))
    period = torch.tensor([2, 6]) + 1  # sine and cosine of the metre: both end on .44
    assert torch.allclose(one[period], other[period], atol=1e-3) and not torch.allclose(one[period - 1], other[period - 1], atol=0.1)


def known_pairs(batch):
    return {**batch, "pair_index": torch.tensor([[0, 2], [3, 1]]), "pair_distance": torch.tensor([1.5, 20.0])}


@pytest.mark.slow
def test_distances_are_learned_and_only_by_their_own_loss(tiny_model, tiny_batch) -> None:
    """The text reads the estimate and never bends it; training on two known distances makes both right."""
    model = tiny_model(**MEASURED).train()
    batch = known_pairs(tiny_batch(model.config))
    model(**without(batch, "pair_index", "pair_distance")).loss.backward()
    assert model.model.pair_embedder.distance_out.weight.grad is None
    optimizer = torch.optim.Adam(model.model.pair_embedder.parameters(), lr=2e-3)
    for _ in range(150):
        optimizer.zero_grad()
        output = model(**batch)
        output.distance_loss.backward()
        optimizer.step()
    first, second = batch["region_geometry"][batch["pair_index"]].unbind(1)
    torch.testing.assert_close(model.model.pair_embedder.log_distance(first, second).exp(), batch["pair_distance"], rtol=0.05, atol=0.0)


def known_sizes(batch):
    nan = float("nan")
    return {**batch, "size_index": torch.tensor([4, 1]), "region_size": torch.tensor([[0.5, 1.5, nan], [12.0, nan, 0.7]])}


@pytest.mark.slow
def test_sizes_are_learned_and_only_by_their_own_loss(tiny_model, tiny_batch) -> None:
    """As distances are; a length that is not known teaches nothing, nor does one that this model does not estimate."""
    model = tiny_model(**VERTICAL).train()
    batch = known_sizes(tiny_batch(model.config))
    model(**without(batch, "size_index", "region_size")).loss.backward()
    assert model.model.size_embedder.sizes_out.weight.grad is None
    optimizer = torch.optim.Adam(model.model.size_embedder.parameters(), lr=2e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model(**batch).size_loss.backward()
        optimizer.step()
    known = ~batch["region_size"].isnan()
    sizes = model(**batch).region_features.log_sizes[batch["size_index"]].exp()
    torch.testing.assert_close(sizes[known], batch["region_size"][known], rtol=0.05, atol=0.0)
    two = tiny_model(**MEASURED).train()
    batch["region_size"][:, :2] = float("nan")
    assert two(**batch).size_loss is None and two(**batch).loss.isfinite()


def test_what_is_seen_of_a_size_is_read_from_the_floor() -> None:
    names = list(REGION_GEOMETRY_FEATURES)
    geometry = torch.zeros(2, len(names))
    seen = {"floor_long_m": 0.2, "floor_low_m": 0.01, "floor_high_m": 0.05, "has_floor": 1.0}
    geometry[0, [names.index(name) for name in seen]] = torch.tensor(list(seen.values()))
    torch.testing.assert_close(visible_log_sizes(geometry), torch.tensor([[2.0, 0.5, 0.3], [1.0, 1.0, 1.0]]).log())


def test_a_size_that_is_named_after_a_name_is_said_there(tiny_model, tiny_batch) -> None:
    """With the sizes told wrongly, only the words from the size's name to the next region change; and decoding sees it as reading does."""
    model = tiny_model(**MEASURED).model
    inputs = ("pixel_values", "depth_values", "region_masks", "region_image_index", "region_geometry")
    batch = tiny_batch(model.config)
    embeds = model.encode(**{name: batch[name] for name in inputs})
    words = torch.tensor([[6, NAMES[0], 5, 6, 7, NAMES[0], NAMES[1], 7, 5, 8, NAMES[0], 6]])  # 6 and 7 are "width" and "height"
    index = torch.tensor([[3, 1]])

    def read(size, cached=0):
        features = dataclasses.replace(embeds.region_features, log_sizes=size)
        return model.merge(words[:, cached:], None, features, None, index, True, words)

    sizes = embeds.region_features.log_sizes
    one, size = read(sizes), sizes.clone()
    size[1, 1] += 1  # the second region's height
    assert (read(size) != one).any(-1)[0].nonzero().flatten().tolist() == [7, 8, 9]
    size[3, 0] += 1  # the first region's width
    assert (read(size) != one).any(-1)[0].nonzero().flatten().tolist() == [7, 8, 9, 11]
    for cached in (7, 8, 11):
        torch.testing.assert_close(read(size, cached), read(size)[:, cached:])


def test_how_far_apart_a_pair_is_vertically_is_said_after_its_word(tiny_model, tiny_batch) -> None:
    """Only there, instead of the pair's distance, of what is estimated of both; nowhere without a pair, and decoding sees it, too."""
    model = tiny_model(**VERTICAL).model
    batch = tiny_batch(model.config)
    embeds = model.encode(**{name: batch[name] for name in IMAGE_KEYS})
    words = torch.tensor([[NAMES[0], 8, 5, NAMES[0], NAMES[1], 8, 5, NAMES[1], 5]])  # 8 is "up"
    index, size = torch.tensor([[3, 1]]), embeds.region_features.log_sizes

    def read(cached=0):
        features = dataclasses.replace(embeds.region_features, log_sizes=size)
        return model.merge(words[:, cached:], None, features, None, index, True, words)

    def bare():
        return model.get_input_embeddings()(words)

    said = (read() - bare())[0]
    torch.testing.assert_close(said[1:3], torch.zeros_like(said[1:3]))  # after one name alone
    metres = (size[3, 2].exp() - size[1, 2].exp()).abs()
    torch.testing.assert_close(said[5:7], model.size_embedder.embed_length(metres.log()[None]).expand(2, -1))
    torch.testing.assert_close(read(5), read()[:, 5:])
    before, size = read(), size + torch.tensor([0, 0, 0.5])
    assert (read() != before).any(-1)[0].nonzero().flatten().tolist() == [5, 6]


def test_length_losses_are_for_training_only(tiny_model, tiny_batch) -> None:
    model = tiny_model(**MEASURED)
    batch = known_sizes(known_pairs(tiny_batch(model.config)))
    answer = model(**batch)
    trained = model.train()(**batch)
    assert answer.distance_loss is None and answer.size_loss is None
    torch.testing.assert_close(trained.loss, answer.loss)
    weights = LossWeights(distance=0.5, size=0.25)
    total = total_loss(trained, batch["labels"], weights)
    torch.testing.assert_close(total, answer.loss + 0.5 * trained.distance_loss + 0.25 * trained.size_loss)


# ------------------------------------------------------------------------------------------------------------------ pooling
@pytest.mark.parametrize("mask_side", [8, 16])
def test_pooling_is_the_mean_under_the_mask(mask_side) -> None:
    maps = torch.randn(3, 64, 5)
    masks = torch.rand(4, mask_side, mask_side)
    index = torch.tensor([2, 0, 2, 2])  # image 1 has no region
    pooled = pool_masks(maps, masks, index)
    small = torch.nn.functional.avg_pool2d(masks, mask_side // 8).flatten(1)
    for n in range(4):
        torch.testing.assert_close(pooled[n], (small[n, :, None] * maps[index[n]]).sum(0) / small[n].sum())


def test_an_empty_mask_pools_to_zero() -> None:
    assert (pool_masks(torch.randn(1, 16, 3), torch.zeros(1, 4, 4), torch.tensor([0])) == 0).all()


def test_pooling_coordinates_returns_centroids() -> None:
    """Row and column of the map and of the masks are the same row and column."""
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    maps = torch.stack([y, x], dim=-1).view(1, 64, 2)
    masks = torch.zeros(2, 8, 8)
    masks[0, 1:3, 4:8] = 1
    masks[1, 6, 0] = 0.25
    pooled = pool_masks(maps, masks, torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(pooled, torch.tensor([[1.5, 5.5], [6.0, 0.0]]))


@torch.no_grad()
def test_the_refiner_is_the_transposed_convolution(tiny_model) -> None:
    refiner = tiny_model().model.rgb_refiner
    x = torch.randn(2, 3, 3, 24)
    layer = refiner.upsamples[0]
    torch.nn.init.normal_(layer.bias)
    wanted = torch.nn.functional.conv_transpose2d(x.permute(0, 3, 1, 2), layer.weight, layer.bias, stride=2).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(x), wanted, **CLOSE)


@torch.no_grad()
def test_each_refiner_cell_sees_its_own_token(tiny_model) -> None:
    refiner = tiny_model().model.rgb_refiner
    tokens = torch.randn(1, 4, 24)
    changed = tokens.clone()
    changed[0, 1] += 1.0  # top right
    difference = (refiner(changed) - refiner(tokens)).abs().sum(-1).view(8, 8) > 0
    wanted = torch.zeros(8, 8, dtype=torch.bool)
    wanted[:4, 4:] = True
    assert torch.equal(difference, wanted)
