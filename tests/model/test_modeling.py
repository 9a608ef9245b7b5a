"""Laws of the model, on tiny random weights; parity with the released program is in test_parity.py."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from smolrgpt.model import REGION_GEOMETRY_FEATURES, RegionFeatures, SmolRGPTConfig, SmolRGPTForConditionalGeneration
from smolrgpt.model.packing import pack_rows
from smolrgpt.model.region_embedding import digit_features, known_features, pool_masks, visible_log_distance, visible_log_sizes
from smolrgpt.precision import best_dtype
from smolrgpt.train.config import LossWeights
from smolrgpt.train.losses import total_loss

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
NAMES = list(range(40, 48))
NAMED = {"region_fusion": "name", "region_name_token_ids": NAMES}
PAIRED = {**NAMED, "pair_geometry": True}
MEASURED = {**PAIRED, "estimates_distance": True, "estimates_sizes": True, "size_word_ids": {"width": 6, "height": 7}}
VERTICAL = {**MEASURED, "size_word_ids": {"width": 6, "height": 7, "vertical": 8}}
both_fusions = pytest.mark.parametrize("changes", [{}, NAMED, PAIRED, VERTICAL], ids=["tokens", "names", "pairs", "lengths"])
#: Lets only names be written, so that answers are made of what carries features.
ONLY_NAMES = [i for i in range(64) if i not in NAMES]
IMAGE_KEYS = ("pixel_values", "depth_values", "region_masks", "region_image_index", "region_geometry")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def without(batch, *names):
    return {name: value for name, value in batch.items() if name not in names}


def prompts(batch):
    """The batch up to its answers' first token, without labels: what `generate` gets."""
    return {**without(batch, "labels"), "input_ids": batch["input_ids"][:, :-2], "attention_mask": batch["attention_mask"][:, :-2]}


def question(batch, i):
    """One question alone, without its padding."""
    real = batch["attention_mask"][i] == 1
    rows = {name: batch[name][i : i + 1][:, real] for name in ("input_ids", "attention_mask", "labels") if name in batch}
    return {**batch, **rows, "image_index": batch["image_index"][i : i + 1], "region_index": batch["region_index"][i : i + 1]}


# ------------------------------------------------------------------------------------------------------------ the published model
def test_default_configuration_is_the_published_model() -> None:
    with torch.device("meta"):
        model = SmolRGPTForConditionalGeneration(SmolRGPTConfig())
    parts = model.model

    def millions(module):
        return round(sum(p.numel() for p in module.parameters()) / 1e6, 2)

    assert round(millions(model), 1) == 475.7
    assert millions(parts.vision_tower) == 85.84
    assert millions(parts.rgb_connector) == millions(parts.depth_connector) == 2.95
    assert millions(parts.rgb_refiner) == millions(parts.depth_refiner) == 11.07
    assert millions(parts.language_model) == 361.82
    config = model.config
    assert (config.num_image_tokens, config.grid_size, config.text_config.vocab_size) == (64, 64, 49155)
    assert config.text_config.rope_parameters["rope_theta"] == 100000
    assert model.lm_head.weight.shape == (49155, 960)


def test_geometry_token_takes_one_more_id() -> None:
    config = SmolRGPTConfig(region_tokens=("rgb", "depth", "geo"))
    assert config.text_config.vocab_size == 49156
    assert config.region_token_ids == {"rgb": 49153, "depth": 49154, "geo": 49155}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"region_tokens": ("depth", "rgb")}, "in this order"),
        ({"region_tokens": ("geo",), "predicts_geometry": True}, "predicts_geometry"),
        ({"image_token_id": 64}, "outside the text vocabulary"),
        ({"image_token_id": 61}, "must differ"),
        ({"pixel_shuffle_factor": 3}, "does not divide"),
        ({"region_token_ids": {"rgb": 61}}, "no id for"),
        ({"region_fusion": "sum"}, "region_fusion is 'sum'"),
        ({"region_fusion": "name"}, "region_name_token_ids is empty"),
        ({"region_fusion": "name", "region_name_token_ids": [64]}, "outside the text vocabulary"),
        ({"pair_geometry": True}, "pair_geometry needs"),
        ({**NAMED, "estimates_distance": True}, "pair_geometry is off"),
        ({**VERTICAL, "pair_geometry": False, "estimates_distance": False}, "optionally with pair_geometry"),
    ],
)
def test_contradicting_configurations_raise(tiny_config, changes, message) -> None:
    with pytest.raises(Exception, match=message):  # the library wraps ValueErrors of a configuration's validators
        tiny_config(**changes)


OLD_FIELDS = {
    "depth_path": "separate",
    "refiner": "separate",
    "train_logits": False,
    "geometry_loss_weight": 0.5,
    "distance_loss_weight": 1.0,
    "size_loss_weight": 1.0,
    "size_word_ids": [6, 7, 8],
}


def test_fields_of_older_releases_are_converted_when_a_configuration_loads(tiny_config, tmp_path: Path) -> None:
    tiny_config(**PAIRED).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    fields = {key: value for key, value in json.loads(path.read_text()).items() if not key.startswith(("predicts", "estimates", "size_"))}

    def load(**old) -> SmolRGPTConfig:
        path.write_text(json.dumps({**fields, **OLD_FIELDS, **old}))
        return AutoConfig.from_pretrained(tmp_path)

    old = load().to_dict()
    tiny_config(**VERTICAL, predicts_geometry=True).save_pretrained(tmp_path)
    assert old == AutoConfig.from_pretrained(tmp_path).to_dict()
    assert load(size_word_ids=[6, 7]).ordered_size_word_ids == [6, 7]
    off = load(geometry_loss_weight=0.0, distance_loss_weight=0, size_loss_weight=0.0, refiner="none")
    assert not (off.predicts_geometry or off.estimates_distance or off.estimates_sizes or off.num_size_estimates or off.refiner_stages)
    with pytest.raises(ValueError, match="variant of an ablation"):
        load(depth_path="shared")


# ---------------------------------------------------------------------------------------------------------------- batches
@both_fusions
@torch.no_grad()
def test_left_padding_changes_nothing(tiny_model, tiny_batch, changes) -> None:
    model = tiny_model(**changes)
    batch, padded = tiny_batch(model.config), tiny_batch(model.config, extra_padding=5)
    length = batch["input_ids"].shape[1]
    real = batch["attention_mask"] == 1
    ours, theirs = model(**without(batch, "labels")).logits, model(**without(padded, "labels")).logits
    torch.testing.assert_close(ours[real], theirs[:, -length:][real], **CLOSE)
    torch.testing.assert_close(model(**batch).loss, model(**padded).loss, **CLOSE)


@both_fusions
@torch.no_grad()
def test_grouped_batch_equals_one_by_one(tiny_model, tiny_batch, changes) -> None:
    model = tiny_model(**changes)
    batch = tiny_batch(model.config)
    together = model(**without(batch, "labels")).logits
    losses = []
    for i in range(3):
        alone = question(batch, i)
        losses.append(model(**alone).loss)
        logits = model(**without(alone, "labels")).logits[0]
        torch.testing.assert_close(together[i, -len(logits) :], logits, **CLOSE)
    torch.testing.assert_close(model(**batch).loss, torch.stack(losses).mean(), **CLOSE)  # two labels each


@both_fusions
@torch.no_grad()
def test_answers_of_a_batch_are_the_answers_one_by_one(tiny_model, tiny_batch, changes) -> None:
    model = tiny_model(**changes)
    if changes:
        model.generation_config.suppress_tokens = ONLY_NAMES
    batch = prompts(tiny_batch(model.config))
    together = model.generate(**batch, max_new_tokens=6, do_sample=False, eos_token_id=None)[:, batch["input_ids"].shape[1] :]
    for i in range(3):
        alone = question(batch, i)
        answer = model.generate(**alone, max_new_tokens=6, do_sample=False, eos_token_id=None)[0, alone["input_ids"].shape[1] :]
        assert together[i].tolist() == answer.tolist()


@both_fusions
@torch.no_grad()
def test_cached_features_equal_uncached(tiny_model, tiny_batch, changes) -> None:
    model = tiny_model(**changes)
    batch = without(tiny_batch(model.config), "labels")
    text = without(batch, *IMAGE_KEYS)
    wanted = model(**batch).logits
    features = model.encode(**{key: batch[key] for key in IMAGE_KEYS})
    torch.testing.assert_close(
        model(**text, image_embeds=features.image_embeds, region_features=features.region_features).logits, wanted, **CLOSE
    )
    images = model.encode_images(batch["pixel_values"], batch["depth_values"])
    regions = model.pool_regions(images.region_maps, batch["region_masks"], batch["region_image_index"], batch["region_geometry"])
    cached = {"image_embeds": images.image_embeds, "region_features": regions}
    torch.testing.assert_close(model(**text, **cached).logits, wanted, **CLOSE)
    options = {"max_new_tokens": 4, "do_sample": False}
    assert torch.equal(model.generate(**text, **cached, **options), model.generate(**batch, **options))


@both_fusions
@torch.no_grad()
def test_key_value_prefix_equals_whole_prompt(tiny_model, tiny_batch, changes) -> None:
    model = tiny_model(**changes)
    batch = question(without(tiny_batch(model.config), "labels"), 0)
    features = model.encode(**{key: batch[key] for key in IMAGE_KEYS})
    prefix = 1 + model.config.num_image_tokens
    start = model(
        input_ids=batch["input_ids"][:, :prefix], image_embeds=features.image_embeds, image_index=batch["image_index"], use_cache=True
    )
    rest = model(
        input_ids=batch["input_ids"][:, prefix:],
        attention_mask=batch["attention_mask"],
        past_key_values=start.past_key_values,
        region_features=features.region_features,
        region_index=batch["region_index"],
    )
    torch.testing.assert_close(rest.logits, model(**batch).logits[:, prefix:], **CLOSE)


@torch.no_grad()
def test_one_image_serves_all_questions_by_default(tiny_model, tiny_batch) -> None:
    model = tiny_model(region_tokens=())
    batch = without(tiny_batch(model.config), "labels", "region_masks", "region_image_index", "region_geometry", "region_index")
    batch["pixel_values"] = batch["pixel_values"][:1]
    wanted = model(**{**batch, "image_index": torch.zeros(3, dtype=torch.long)}).logits
    torch.testing.assert_close(model(**without(batch, "image_index")).logits, wanted)


@torch.no_grad()
def test_text_alone_needs_no_image(tiny_model) -> None:
    model = tiny_model()
    assert model(input_ids=torch.tensor([[1, 5, 6]])).logits.shape == (1, 3, 64)
    answer = model.generate(input_ids=torch.tensor([[1, 5, 6]]), attention_mask=torch.ones(1, 3, dtype=torch.long), max_new_tokens=2)
    assert 3 < answer.shape[1] <= 5


# ------------------------------------------------------------------------------------------------------------ placeholders
def test_placeholders_and_features_must_match(tiny_model, tiny_batch) -> None:
    model = tiny_model()
    batch = tiny_batch(model.config)
    with pytest.raises(ValueError, match="sample 1: 1 'rgb' region placeholders in the text, 2 regions given"):
        model(**{**batch, "region_index": torch.tensor([[3, 1], [4, 2], [-1, -1]])})
    with pytest.raises(ValueError, match="sample 0: 2 'rgb' region placeholders in the text, 0 regions given"):
        model(**without(batch, "region_index"))
    with pytest.raises(ValueError, match="sample 1: points at region 5, but only 5 regions"):
        model(**{**batch, "region_index": torch.tensor([[3, 1], [5, -1], [-1, -1]])})
    short = batch["input_ids"].clone()
    short[2, -5] = 5  # one of the four image tokens
    with pytest.raises(ValueError, match="sample 2: 3 image placeholders in the text, 4 image features given"):
        model(**{**batch, "input_ids": short})
    with pytest.raises(ValueError, match="sample 0: 4 image placeholders in the text, 0 image features given"):
        model(**without(batch, *IMAGE_KEYS))
    with pytest.raises(ValueError, match="sample 1: points at image 2, but only 2 images"):
        model(**{**batch, "image_index": torch.tensor([0, 2, 0])})
    with pytest.raises(ValueError, match="pass image_index"):
        model(**without(batch, "image_index"))


@pytest.mark.parametrize("name", ["depth_values", "region_geometry"])
def test_missing_inputs_are_named(tiny_model, tiny_batch, name) -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        model(**without(tiny_batch(model.config), name))


def test_regions_land_in_order(tiny_model, tiny_batch) -> None:
    model = tiny_model()
    batch = tiny_batch(model.config)
    table = RegionFeatures({kind: torch.arange(5.0)[:, None].expand(5, 24) + 10 * i for i, kind in enumerate(("rgb", "depth", "geo"))})
    merged = model.model.merge(batch["input_ids"], torch.zeros(2, 4, 24), table, batch["image_index"], batch["region_index"])
    found = [merged[i][torch.isin(batch["input_ids"][i], torch.tensor([61, 62, 63]))][:, 0].tolist() for i in range(3)]
    assert found == [[3, 13, 23, 1, 11, 21], [4, 14, 24], []]


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


# ------------------------------------------------------------------------------------------------------------- variations
REGION_TOKENS = [("rgb", "depth"), ("depth",), ("depth", "geo"), ("rgb",), ("geo",), (), ("rgb", "geo")]


@pytest.mark.parametrize(("refiner_stages", "region_tokens"), itertools.product((0, 2), REGION_TOKENS))
def test_every_variation_trains(tiny_model, tiny_batch, refiner_stages, region_tokens) -> None:
    predicts = bool({"rgb", "depth"} & set(region_tokens))
    model = tiny_model(refiner_stages=refiner_stages, region_tokens=region_tokens, predicts_geometry=predicts).train()
    batch = tiny_batch(model.config)
    total_loss(model(**batch), batch["labels"], LossWeights()).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not idle  # every parameter that exists is used
    names = {name.split(".")[1] for name, _ in model.named_parameters()}
    assert ("depth_connector" in names) == ("depth" in region_tokens)
    assert ("depth_refiner" in names) == ("depth" in region_tokens and refiner_stages > 0)


def test_pooled_vectors_may_be_normalised(tiny_model, tiny_batch) -> None:
    model = tiny_model(region_norm=True)
    pooled = model(**tiny_batch(model.config)).region_features.tokens["rgb"]
    torch.testing.assert_close(pooled.std(dim=1, correction=0), torch.full((5,), 0.02), rtol=0.02, atol=0)  # words' own scale


@torch.no_grad()
def test_other_vision_towers_work(tiny_model, tiny_batch) -> None:
    """A class token in front of the patches is dropped."""
    vision = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    model = tiny_model(vision_config=vision)
    batch = tiny_batch(model.config)
    assert model.model.encode_patches(batch["pixel_values"]).shape == (2, 16, 16)
    assert model(**batch).loss.isfinite()


# ---------------------------------------------------------------------------------------------------------------- training
@torch.no_grad()
def test_loss_is_the_mean_over_labelled_tokens(tiny_model, tiny_batch) -> None:
    model = tiny_model()
    batch = tiny_batch(model.config)
    logits = model(**without(batch, "labels")).logits
    wanted = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    output = model(**batch)
    torch.testing.assert_close(output.loss, wanted, **CLOSE)
    torch.testing.assert_close(model(**batch, num_items_in_batch=torch.tensor(12)).loss, wanted / 2, **CLOSE)  # 6 of 12 labels are here
    assert output.logits is None
    assert model(**batch, logits_to_keep=1).logits.shape == (3, 1, 64)


@both_fusions
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_training_without_padding_changes_nothing(tiny_config, tiny_batch, attention, changes) -> None:
    """TarMember and padded rows give the same loss and gradients."""
    config = tiny_config(**changes)
    results = []
    for packed in (True, False):
        torch.manual_seed(0)
        model = SmolRGPTForConditionalGeneration._from_config(config, attn_implementation=attention).train()
        batch = tiny_batch(model.config, extra_padding=3)
        rows = []
        original = model.model.language_model.forward
        model.model.language_model.forward = lambda *args, o=original, r=rows, **kwargs: (
            r.append(kwargs["inputs_embeds"].shape) or o(*args, **kwargs)
        )
        loss = model(**batch, **({} if packed else {"output_hidden_states": True})).loss
        loss.backward()
        assert (rows[0][1] < batch["input_ids"].shape[1]) == packed
        results.append((loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (one, gradients), (other, wanted) = results
    torch.testing.assert_close(one, other, **CLOSE)
    assert gradients.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(gradients[name], gradient, **CLOSE, msg=name)


def test_packed_rows_hold_every_token_once() -> None:
    lengths = torch.tensor([3, 9, 4, 5, 1, 0])
    mask = (torch.arange(11) >= 11 - lengths[:, None]).long()
    source, positions = pack_rows(mask)
    assert source.shape == (3, 9)  # 22 tokens in rows of 9: no fewer rows are possible
    assert sorted(source[source >= 0].tolist()) == mask.flatten().nonzero().flatten().tolist()
    starts = ((positions == 0) & (source >= 0)).sum().item()
    assert starts == (lengths > 0).sum() and (positions[source < 0] == 0).all()
    question = torch.where(source >= 0, source // 11, -1)
    for row, place in zip(question, positions, strict=True):
        for i in set(row.tolist()) - {-1}:
            assert place[row == i].tolist() == list(range(lengths[i]))


def test_a_batch_without_labelled_tokens_has_zero_loss(tiny_model, tiny_batch) -> None:
    model = tiny_model()
    batch = tiny_batch(model.config)
    loss = model(**{**batch, "labels": torch.full_like(batch["labels"], -100)}).loss
    loss.backward()
    assert loss.item() == 0


def test_geometry_loss_is_for_training_only(tiny_model, tiny_batch) -> None:
    model, weights = tiny_model(predicts_geometry=True), LossWeights(geometry=0.5)
    batch = tiny_batch(model.config)
    answer = model(**batch).loss
    assert model(**batch).geometry_loss is None
    trained = model.train()(**batch)
    total = total_loss(trained, batch["labels"], weights)
    torch.testing.assert_close(total, answer + 0.5 * trained.geometry_loss)
    accumulated = model(**batch, num_items_in_batch=12)
    half = total_loss(accumulated, batch["labels"], weights, num_items=12)
    torch.testing.assert_close(half, total / 2)  # half of the labels, half of the weight


def test_unknown_geometry_is_no_target() -> None:
    names = list(REGION_GEOMETRY_FEATURES)
    geometry = torch.zeros(4, len(names))  # no depth; relative depth; metric depth and camera; and a floor
    for row, flags in enumerate(
        ((), ("has_depth",), ("has_depth", "is_metric", "has_camera"), ("has_depth", "is_metric", "has_camera", "has_floor"))
    ):
        geometry[row, [names.index(flag) for flag in flags]] = 1.0
    known = known_features(geometry)
    unknown = [[name for name, weight in zip(names, row, strict=True) if not weight] for row in known.tolist()]
    assert unknown[3] == [] and all(name.startswith("floor_") for name in unknown[2]) and len(unknown[2]) == 4
    assert all(name.endswith("_m") for name in unknown[1]) and len(unknown[1]) == 11
    assert len(unknown[0]) == 17
    assert known[:, :7].all()


def test_geometry_of_another_version_is_refused(tiny_model, tiny_batch) -> None:
    model = tiny_model(**NAMED)
    batch = tiny_batch(model.config)
    width = batch["region_geometry"].shape[1]
    with pytest.raises(ValueError, match=rf"region_geometry has {width - 5} columns, this model learned from {width}"):
        model(**{**batch, "region_geometry": batch["region_geometry"][:, :-5]})


def test_frozen_vision_tower_builds_no_graph(tiny_model, tiny_batch) -> None:
    model = tiny_model().train()
    model.model.vision_tower.requires_grad_(False)
    batch = tiny_batch(model.config)
    assert not model.model.encode_patches(batch["pixel_values"]).requires_grad
    model(**batch).loss.backward()
    assert all(p.grad is None for p in model.model.vision_tower.parameters())
    assert model.model.depth_connector.proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("frozen", [False, True])
def test_gradient_checkpointing_changes_no_gradient(tiny_model, tiny_batch, frozen) -> None:
    model = tiny_model().train()
    model.model.vision_tower.requires_grad_(not frozen)
    batch = tiny_batch(model.config)
    model(**batch, use_cache=False).loss.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert model.is_gradient_checkpointing
    model(**batch, use_cache=False).loss.backward()
    for name, parameter in model.named_parameters():
        if name in wanted:
            torch.testing.assert_close(parameter.grad, wanted[name], **CLOSE)


def test_lora_trains_and_merges(tiny_model, tiny_batch) -> None:
    peft = pytest.importorskip("peft")
    model = tiny_model()
    batch = tiny_batch(model.config)
    adapter = peft.LoraConfig(r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)", init_lora_weights=True)
    tuned = peft.get_peft_model(copy.deepcopy(model), adapter)
    before = tuned(**batch).loss
    torch.testing.assert_close(before, model(**batch).loss, **CLOSE)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        tuned(**batch).loss.backward()
        optimizer.step()
    tuned.eval()
    after = tuned(**batch).loss
    assert after < before
    prompt = prompts(batch)
    answers = tuned.generate(**prompt, max_new_tokens=3, do_sample=False)
    merged = tuned.merge_and_unload()
    assert isinstance(merged, SmolRGPTForConditionalGeneration)
    torch.testing.assert_close(merged(**batch).loss, after, **CLOSE)
    assert torch.equal(merged.generate(**prompt, max_new_tokens=3, do_sample=False), answers)


def test_fresh_region_tokens_carry_signal(tiny_model, tiny_batch) -> None:
    """At initialisation no token drowns in the text's embeddings (std 0.02), and normalised ones drown no text."""
    for normalised in (False, True):
        model = tiny_model(region_norm=normalised)
        outputs = model(**tiny_batch(model.config))
        assert 0.01 < outputs.image_embeds.std() < 0.04
        for kind, embeds in outputs.region_features.tokens.items():
            assert 0.01 < embeds.pow(2).mean().sqrt() < (0.04 if normalised or kind == "geo" else 2), kind


# -------------------------------------------------------------------------------------------------------------- generation
def test_generation_stops_at_the_end_token(tiny_model, tiny_batch) -> None:
    model = tiny_model()
    batch = question(prompts(tiny_batch(model.config)), 0)
    prompt = batch["input_ids"].shape[1]
    free = model.generate(**batch, max_new_tokens=8, do_sample=False, eos_token_id=None)[0, prompt:].tolist()
    stop = free[1]
    answer = model.generate(**batch, max_new_tokens=8, do_sample=False, eos_token_id=stop)[0, prompt:].tolist()
    assert answer == free[: free.index(stop) + 1]
    assert model.generation_config.eos_token_id == 2


def test_placeholders_are_never_generated(tiny_model, tiny_batch) -> None:
    model = tiny_model()
    batch = prompts(tiny_batch(model.config))
    torch.manual_seed(0)
    options = {"do_sample": True, "temperature": 100.0, "top_k": 0, "max_new_tokens": 40, "eos_token_id": None}
    answers = model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
    assert not torch.isin(answers, torch.tensor([60, 61, 62, 63])).any()


@both_fusions
def test_sampling_several_answers_and_beams(tiny_model, tiny_batch, changes) -> None:
    """Repeated questions point at images and regions that are not repeated."""
    model = tiny_model(**changes)
    if changes:
        model.generation_config.suppress_tokens = ONLY_NAMES
    batch = prompts(tiny_batch(model.config))
    length = batch["input_ids"].shape[1]
    torch.manual_seed(0)
    sampled = model.generate(**batch, do_sample=True, num_return_sequences=3, max_new_tokens=4)
    assert sampled.shape[0] == 9 and torch.equal(sampled[::3, :length], batch["input_ids"])
    beams = model.generate(**batch, num_beams=3, do_sample=False, max_new_tokens=4, eos_token_id=None)
    for i in range(3):
        alone = question(batch, i)
        single = model.generate(**alone, num_beams=3, do_sample=False, max_new_tokens=4, eos_token_id=None)
        assert beams[i, length:].tolist() == single[0, alone["input_ids"].shape[1] :].tolist()


@both_fusions
def test_generation_without_cache_is_the_same(tiny_model, tiny_batch, changes) -> None:
    model = tiny_model(**changes)
    if changes:
        model.generation_config.suppress_tokens = ONLY_NAMES
    batch = prompts(tiny_batch(model.config))
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    assert torch.equal(model.generate(**batch, **options), model.generate(**batch, **options, use_cache=False))


# ------------------------------------------------------------------------------------------------------------------ saving
@torch.no_grad()
def test_saved_model_comes_back(tiny_model, tiny_batch, tmp_path: Path) -> None:
    model = tiny_model(predicts_geometry=True, region_norm=True)
    model.save_pretrained(tmp_path)
    batch = tiny_batch(model.config)
    wanted = model(**without(batch, "labels")).logits
    for loaded in (SmolRGPTForConditionalGeneration.from_pretrained(tmp_path), AutoModelForImageTextToText.from_pretrained(tmp_path)):
        assert isinstance(loaded, SmolRGPTForConditionalGeneration)
        assert torch.equal(loaded(**without(batch, "labels")).logits, wanted)
        assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
        assert loaded.generation_config.suppress_tokens == [60, 61, 62, 63]
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, SmolRGPTConfig)
    assert config.region_tokens == ("rgb", "depth", "geo") and config.region_norm
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, attn_implementation="eager")
    real = batch["attention_mask"] == 1
    torch.testing.assert_close(loaded(**without(batch, "labels")).logits[real], wanted[real], **CLOSE)


def test_saved_folder_loads_without_this_package(tiny_model, tmp_path: Path) -> None:
    """The folder carries the model's code for `trust_remote_code`; the model's files import nothing else of ours."""
    tiny_model().save_pretrained(tmp_path / "model")
    program = (
        "import sys; sys.modules['smolrgpt'] = None; import torch\n"  # None: importing it raises
        "from transformers import AutoModelForImageTextToText\n"
        "model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "print(model(input_ids=torch.tensor([[1, 5, 6]])).logits.shape[-1])\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "model")], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() == "64", done.stderr


@torch.no_grad()
def test_half_precision_stays_close(tiny_model, tiny_batch) -> None:
    model = tiny_model()
    batch = tiny_batch(model.config)
    wanted = model(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(**batch).loss, wanted, rtol=0.02, atol=0.02)
    torch.testing.assert_close(model.to(torch.bfloat16)(**batch).loss, wanted, rtol=0.02, atol=0.02)


def test_best_dtype_is_one_that_the_device_has() -> None:
    assert best_dtype("cpu") in (torch.float32, torch.bfloat16)
    assert best_dtype("meta") == torch.float32
