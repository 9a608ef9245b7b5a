"""Cached features of a frozen tower equal those that it computes, whatever happens to the files; another tower never reads them."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import FROZEN_TOWER, tiny_run, tiny_stage

from smolrgpt.model import SmolRGPTForConditionalGeneration
from smolrgpt.schema import Sample
from smolrgpt.train import feature_cache, trainer
from smolrgpt.train.feature_cache import FeatureCache, feature_bytes, tower_digest
from smolrgpt.train.recipes import ALL


@pytest.fixture
def model(tiny_checkpoint) -> SmolRGPTForConditionalGeneration:
    return SmolRGPTForConditionalGeneration.from_pretrained(tiny_checkpoint, dtype=torch.float32).eval()


def _batch(model, seed: int = 0, images: int = 3, regions: int = 2) -> dict[str, torch.Tensor]:
    side, made = model.config.vision_config.image_size, torch.Generator().manual_seed(seed)
    images_of = {name: torch.rand(images, 3, side, side, generator=made) for name in ("pixel_values", "depth_values")}
    return {**images_of, "region_masks": torch.ones(regions, 4, 4), "input_ids": torch.zeros(1, 2, dtype=torch.long)}


def _features(cache: FeatureCache, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return cache(batch)["patch_features"]


def test_cached_features_are_those_that_the_tower_computes(model, tmp_path):
    batch, cache = _batch(model), FeatureCache(tmp_path, model, torch.float32)
    with torch.no_grad():
        expected = model.model.get_patch_features(batch["pixel_values"], batch["depth_values"])
    assert torch.allclose(_features(cache, batch), expected, atol=1e-6) and (cache.misses, cache.hits) == (6, 0)
    assert torch.equal(_features(cache, batch), _features(cache, batch)) and (cache.misses, cache.hits) == (6, 12)
    again = FeatureCache(str(tmp_path), model, torch.float32)
    assert torch.allclose(_features(again, batch), expected, atol=1e-6) and again.misses == 0, "another run finds them"
    assert set(cache(batch)) == {"patch_features", "region_masks", "input_ids"}


def test_the_loss_is_that_of_the_images(model, tmp_path):
    batch = _batch(model, images=1, regions=0)
    words = {"input_ids": torch.tensor([[model.config.image_token_id] * model.config.num_image_tokens + [300, 301, 302]])}
    words |= {"labels": words["input_ids"].where(words["input_ids"] >= 300, -100), "attention_mask": torch.ones_like(words["input_ids"])}
    with torch.no_grad():
        expected = model(**{**batch, **words, "region_masks": None}).loss
        found = model(**FeatureCache(tmp_path, model, torch.float32)({**batch, **words, "region_masks": None})).loss
        assert torch.allclose(found, expected, atol=1e-6)
        with pytest.raises(ValueError, match="only one of"):
            model(**words, pixel_values=batch["pixel_values"], patch_features=torch.zeros(1))


def test_captions_cost_no_depth(model, tmp_path):
    cache = FeatureCache(tmp_path, model, torch.float32)
    assert len(_features(cache, _batch(model, regions=0))) == 1 and cache.misses == 3
    with pytest.raises(ValueError, match="holds no depth"):
        model.model.connect_patches(_features(cache, _batch(model, regions=0)))
    text = {"input_ids": torch.zeros(1, 2, dtype=torch.long)}
    assert cache(text) is text, "a blind model's batch"


def test_an_image_twice_in_a_batch_is_computed_once(model, tmp_path):
    cache, batch = FeatureCache(tmp_path, model, torch.float32), _batch(model)
    batch["depth_values"] = torch.zeros_like(batch["pixel_values"])  # what the processor writes for no depth
    features = _features(cache, batch)
    assert (cache.misses, cache.hits) == (4, 2) and torch.equal(features[1, 0], features[1, 2])


def test_another_tower_or_format_reads_nothing_of_it(model, tmp_path):
    _features(FeatureCache(tmp_path, model, torch.float32), _batch(model))
    assert _features(FeatureCache(tmp_path, model, torch.bfloat16), _batch(model)).dtype == torch.bfloat16
    before = tower_digest(model.model.vision_tower)
    with torch.no_grad():
        next(model.model.vision_tower.parameters()).view(-1)[0] += 1e-3
    assert tower_digest(model.model.vision_tower) != before
    other = FeatureCache(tmp_path, model, torch.float32)
    _features(other, _batch(model))
    assert other.hits == 0 and len(list(tmp_path.iterdir())) == 3


def test_damaged_files_are_reported_and_computed_again(model, tmp_path, caplog):
    cache, batch = FeatureCache(tmp_path, model, torch.float32), _batch(model)
    expected = _features(cache, batch)
    victim, *_ = files = sorted(cache.folder.glob("*/*"))
    assert len(files) == 6
    victim.write_bytes(victim.read_bytes()[:40])
    with caplog.at_level(logging.WARNING):
        assert torch.allclose(_features(cache, batch), expected, atol=1e-6)
    assert str(victim) in caplog.text and cache.misses == 7
    load_file(victim)  # whole again


def test_a_disk_that_takes_nothing_stops_no_training(model, tmp_path, caplog, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache, "save_file", full)
    cache = FeatureCache(tmp_path, model, torch.float32)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert _features(cache, _batch(model)).shape[:2] == (2, 3)
    assert caplog.text.count("No space left") == 1 and cache.misses == 12


def test_the_size_is_logged_first_and_must_fit(model, tmp_path, caplog, monkeypatch):
    cache = FeatureCache(tmp_path, model, torch.float32)
    samples = [Sample(str(i), Path(f"{i % 2}.png"), "?") for i in range(4)]
    one = feature_bytes(model.config, torch.float32)
    _features(cache, _batch(model, images=1))
    written = sum(file.stat().st_size for file in cache.folder.glob("*/*"))
    assert one <= written < one + 2 * 200, "a header per image"
    with caplog.at_level(logging.INFO, logger="smolrgpt"):
        cache.require_disk_space([samples, samples])
    assert "of 2 images" in caplog.text and f"{2 * one / 1e9:.2f} GB" in caplog.text
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(ValueError, match=r"of 2 images.*are free; choose another feature_cache"):
        cache.require_disk_space([samples])


@pytest.mark.slow
def test_a_run_with_it_ends_at_the_same_weights(warehouse, fast_training, tmp_path):
    stages = (
        tiny_stage("align", FROZEN_TOWER, {"captions": 1.0}, max_steps=2),
        tiny_stage("whole", ((ALL, 1e-3),), {"warmup": 1.0}, max_steps=2),
        tiny_stage("fine-tune", FROZEN_TOWER, {"train": 1.0}, max_steps=3, eval_every=3, save_every=3),
    )
    plain = tiny_run(warehouse, tmp_path / "plain", stages=stages, validation_questions=4)
    cached = dataclasses.replace(plain, out=tmp_path / "cached", feature_cache=tmp_path / "features")
    expected, found = (load_file(trainer.run(run) / "model.safetensors") for run in (plain, cached))
    assert all(torch.allclose(found[name], value, atol=1e-5) for name, value in expected.items())
    assert len(list((tmp_path / "features").iterdir())) == 2, "the tower before and after the stage in which it learned"
