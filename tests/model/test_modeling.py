"""Laws of the model, on tiny random weights; parity with the released program is in test_parity.py."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_batches import CLOSE, IMAGE_KEYS, NAMED, ONLY_NAMES, PAIRED, VERTICAL, both_fusions, prompts, question, without
from transformers import AutoConfig, AutoModelForImageTextToText

from smolrgpt.model import RegionFeatures, SmolRGPTConfig, SmolRGPTForConditionalGeneration
from smolrgpt.precision import best_dtype
from smolrgpt.train.config import LossWeights
from smolrgpt.train.losses import total_loss

pytestmark = pytest.mark.slow  # many cases, each short


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


@pytest.mark.slow
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
