"""A run hands each stage's model on, keeps frozen weights bit-identical, and goes on after an interruption as if there had been none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_run import FROZEN_TOWER, TINY, tiny_run, tiny_stage
from transformers import LlamaConfig, LlamaForCausalLM, SiglipConfig, SiglipModel

from smolrgpt.data.collate import Collator
from smolrgpt.data.mixture import Mixture
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.inference.predictor import Predictor
from smolrgpt.model import SmolRGPTImageProcessor
from smolrgpt.train import recipes, trainer
from smolrgpt.train.build import build_model
from smolrgpt.train.callbacks import CURVE_FILE, read_curve
from smolrgpt.train.config import Run, SyntheticData
from smolrgpt.train.lora import ADAPTERS
from smolrgpt.train.recipes import ALL, LANGUAGE, nano_blind
from smolrgpt.train.sources import SyntheticSource, read_synthetic
from smolrgpt.train.tokenizer import train_tokenizer
from tools.bundle import bundle


@pytest.fixture
def config(warehouse, tmp_path, fast_training) -> Run:
    """A run of two stages: everything learns; the vision tower is frozen, and validations follow S1."""
    stages = (
        tiny_stage("align", ((ALL, 1e-3),), {"captions": 1.0, "warmup": 1.0}, max_steps=2, save_every=2),
        tiny_stage("fine-tune", FROZEN_TOWER, {"train": 1.0}, max_steps=4, eval_every=2, save_every=2),
    )
    return tiny_run(warehouse, tmp_path / "run", stages=stages, validation_questions=4, log_every=50)


def _groups(samples, questions_per_image):
    mixture = Mixture({"all": samples}, {"all": 1.0}, questions_per_image)
    return [[mixture[i] for i in group] for group in mixture.epoch(0)]


def with_adapters(run: Run) -> Run:
    """The same run on the pretrained-like part of the recipes: named regions, the language model frozen but for adapters."""
    named = {**TINY, "region_fusion": "name", "pair_geometry": True}
    model = dataclasses.replace(run.model, config=named, lora={"r": 2, "lora_alpha": 4})
    rates = ((ADAPTERS, 1e-3), (LANGUAGE, None), (ALL, 1e-3))
    return dataclasses.replace(run, model=model, stages=tuple(dataclasses.replace(stage, rates=rates) for stage in run.stages))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_depth_is_withheld_from_shares_of_the_images(warehouse):
    """An image shows the same depth to every source, but for the source whose images have no metric depth."""

    def shown(split: str, fraction: float | None, **shares: float) -> dict[str, tuple[str | None, bool]]:
        samples = read_synthetic(SyntheticData(root=warehouse, **shares), SyntheticSource(split, fraction))
        depths = {s.image: None if s.depth is None else Path(s.depth.source).parent.name for s in samples}
        return {s.image: (depths[s.image], s.camera is None) for s in samples}

    metric, relative, none, no_camera = ("depths_metric", False), ("depths", True), (None, True), ("depths_metric", True)
    assert set(shown("train", None).values()) == {metric}
    assert set(shown("train", 1.0).values()) == set(shown("train", None, relative_depth_fraction=1.0).values()) == {relative}
    assert set(shown("train", 1.0, no_depth_fraction=1.0).values()) == {none}
    assert set(shown("train", 1.0, no_camera_fraction=1.0).values()) == {no_camera}
    half = {"relative_depth_fraction": 0.4, "no_camera_fraction": 0.3, "no_depth_fraction": 0.3}
    assert shown("train", None, **half) == shown("train_warmup", None, **half)


@pytest.mark.slow
def test_stages_hand_over_freeze_score_and_save(config, warehouse, tmp_path):
    final = trainer.run(config)
    before, after = _weights(config.out / "1-align" / "final"), _weights(final)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed and not any("vision_tower" in name for name in changed)
    curve = read_curve(config.out / CURVE_FILE)
    assert [row["step"] for row in curve if "S1" in row] == [2, 4]
    answer = Predictor.from_pretrained(final).predict_samples(read_warehouse(warehouse, "val")[:1])[0]
    assert isinstance(answer.answer, str)
    assert (final / "run.json").read_text() == config.to_json() and (config.out / "curve.png").exists()
    assert trainer.run(config) == final, "a finished run stays unchanged"
    bundled = tmp_path / "bundled"
    assert bundle(final, bundled) == sum(path.stat().st_size for path in bundled.iterdir())
    assert not list(bundled.glob("*.py")) and "auto_map" not in (bundled / "config.json").read_text()
    Predictor.from_pretrained(bundled).predict_samples(read_warehouse(warehouse, "val")[:1])


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_weights(adapted, config, tmp_path, monkeypatch):
    config = with_adapters(config) if adapted else config
    straight = trainer.run(dataclasses.replace(config, out=tmp_path / "straight"))
    calls, collate = [], Collator.__call__

    def breaks_once(self, groups):
        calls.append(1)
        if len(calls) == 6:  # align takes 2 batches; the fourth of fine-tune fails after its first checkpoint
            raise KeyboardInterrupt
        return collate(self, groups)

    monkeypatch.setattr(Collator, "__call__", breaks_once)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(config)
    resumed = trainer.run(config)
    one, two = _weights(straight), _weights(resumed)
    assert not [name for name in one if not torch.equal(one[name], two[name])]
    assert not any("lora" in name or "base_layer" in name for name in one), "adapters are merged"


@pytest.mark.slow
def test_monitoring_health_changes_no_weight(config, tmp_path):
    stages = tuple(dataclasses.replace(stage, eval_every=None) for stage in config.stages)
    monitored, plain = (
        trainer.run(dataclasses.replace(config, out=tmp_path / str(on), stages=stages, monitor_health=on)) for on in (True, False)
    )
    one, two = _weights(monitored), _weights(plain)
    assert all(torch.equal(one[name], two[name]) for name in one)
    logs = [
        json.loads((final.parent / "2-fine-tune/checkpoint-4/trainer_state.json").read_text())["log_history"]
        for final in (monitored, plain)
    ]
    assert [row["train_loss"] for row in logs[0] if "train_loss" in row] == [row["train_loss"] for row in logs[1] if "train_loss" in row]
    rows = read_curve(monitored.parent / CURVE_FILE)
    measured = {(row["stage"], row["step"]): row["health"] for row in rows if "health" in row}
    assert list(measured) == [("align", 0), ("align", 2), ("fine-tune", 0), ("fine-tune", 4)]
    assert {"validation_rise", "text_loss"} <= measured["fine-tune", 4].keys()
    assert not any("health" in row for row in read_curve(plain.parent / CURVE_FILE))


def test_another_configuration_in_the_same_folder_is_refused(config):
    config.out.mkdir(parents=True)
    (config.out / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="other settings"):
        trainer.run(config)


def test_eight_steps_of_one_image_are_one_step_of_eight(config, warehouse):
    """The loss of an accumulated step is that of the whole batch: same sum over the same labelled tokens."""
    samples = read_warehouse(warehouse, "train")
    spec = dataclasses.replace(config.model, config={**TINY, "predicts_geometry": False})
    model, processor = build_model(spec, "eager", samples)
    collator, groups = Collator(processor), _groups(samples, 2)[:8]
    whole = collator(groups)
    parts = [collator([group]) for group in groups]
    count = sum(int((part["labels"] != -100).sum()) for part in parts)
    model(**whole, num_items_in_batch=count).loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for part in parts:
        model(**part, num_items_in_batch=count).loss.backward()
    assert expected
    for name, p in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(p.grad, expected[name], rtol=1e-3, atol=1e-6)


def test_a_corrupt_image_is_counted_and_left_out(config, warehouse, tmp_path):
    samples = read_warehouse(warehouse, "train")
    _, processor = build_model(config.model, "eager", samples)
    groups = _groups(samples, 4)
    bad = tmp_path / "broken.png"
    bad.write_bytes(Path(samples[0].image).read_bytes()[:100])
    broken = [dataclasses.replace(sample, image=bad, image_key="broken") for sample in groups[0]]
    collator = Collator(processor)
    batch = collator([broken, groups[1]])
    assert len(batch["input_ids"]) == len(groups[1]) and collator.skips.total == len(broken)
    assert "broken.png" in collator.skips.summary()


def test_a_question_with_too_many_regions_is_counted_and_left_out(config, warehouse):
    samples = read_warehouse(warehouse, "train")
    model = dataclasses.replace(config.model, config={**TINY, "region_fusion": "name", "pair_geometry": True})
    _, processor = build_model(model, "eager", samples)
    processor.num_region_names = 2
    collator = Collator(processor)
    batch = collator([samples])
    fitting = sum(len(sample.regions) <= 2 for sample in samples)
    assert len(batch["input_ids"]) == fitting and collator.skips.total == len(samples) - fitting > 0
    assert "names for 2" in collator.skips.summary()


def test_the_cache_changes_nothing(config, warehouse):
    samples = read_warehouse(warehouse, "train")
    _, processor = build_model(config.model, "eager", samples)
    cached, plain = Collator(processor, cache_gb=1.0), Collator(processor)
    cached.register(samples)
    for _ in range(2):
        one, two = cached([samples[:3], samples[-3:]]), plain([samples[:3], samples[-3:]])
        assert one.keys() == two.keys()
        for name in one:
            torch.testing.assert_close(one[name], two[name], rtol=2e-3, atol=2e-3, equal_nan=True)


@pytest.mark.slow
def test_a_blind_model_trains_on_text_alone(config):
    blind = nano_blind().model
    model = {**TINY, "region_tokens": [], "predicts_geometry": False}
    spec = dataclasses.replace(config.model, config=model, processor=blind.processor)
    final = trainer.run(dataclasses.replace(config, model=spec))
    assert Predictor.from_pretrained(final).processor.is_blind


def test_pretrained_backbones_are_loaded_whole(tmp_path):
    """Vision tower and language model of saved models arrive unchanged; only new words get fresh rows."""
    words = train_tokenizer(["Which pallet is left of the other?"], 300)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = LlamaConfig(vocab_size=270, num_key_value_heads=1, **small)
    siglip = SiglipModel(SiglipConfig(vision_config={**small, "image_size": 32, "patch_size": 8}, text_config={**small, "vocab_size": 50}))
    llama = LlamaForCausalLM(text)
    siglip.save_pretrained(tmp_path / "vision")
    SmolRGPTImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=0.25).save_pretrained(tmp_path / "vision")
    llama.save_pretrained(tmp_path / "text")
    words.save_pretrained(tmp_path / "text")
    found = recipes.full().model
    spec = dataclasses.replace(
        found, backbones=(str(tmp_path / "vision"), str(tmp_path / "text")), config={**found.config, "refiner_stages": 1}
    )
    model, processor = build_model(spec, "eager", [])
    for name, value in siglip.vision_model.state_dict().items():
        if "head" not in name:
            assert torch.equal(model.model.vision_tower.state_dict()[name], value), name
    for name, value in llama.model.state_dict().items():
        assert torch.equal(model.model.language_model.state_dict()[name][: len(value)], value), name
    assert model.config.text_config.vocab_size == len(processor.tokenizer) > 270
    colour = np.array([0, 128, 255], dtype=np.uint8)
    pixels = processor.image_processor.encode_image(np.tile(colour, (5, 5, 1)))
    np.testing.assert_allclose(pixels[:, 3, 3], (colour / 255 - [0.4, 0.5, 0.6]) / 0.25, atol=1e-5)
    (tmp_path / "vision" / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"vision.*normalised"):
        build_model(spec, "eager", [])
    assert processor.tokenizer.convert_ids_to_tokens(model.config.region_name_token_ids[:2]) == ["[Region 0]", "[Region 1]"]
