"""Each failure is found where it exists, left out where it cannot be measured, and measuring changes nothing."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from smolrgpt.model import SmolRGPTForConditionalGeneration, SmolRGPTProcessor
from smolrgpt.schema import Camera, DepthMap, Region, Sample
from smolrgpt.train import health
from smolrgpt.train.callbacks import Curve, read_curve
from smolrgpt.train.health import HealthMonitor, health_warnings, match_categories, mean_loss, permute_depth, plain_english, text_batch


def _sample(number: int, image: int = 0, depth: bool = True, category: str = "distance", **changes) -> Sample:
    pixels = Image.fromarray(np.full((24, 32, 3), 20 * image, dtype=np.uint8))
    metres = DepthMap(np.full((24, 32), 1.0 + image, dtype=np.float32), "metric") if depth else None
    fields = {
        "id": f"q{number}",
        "image": pixels,
        "question": "How far is <mask>?",
        "regions": [Region.from_box((2, 2, 20, 18), 24, 32)],
        "depth": metres,
        "camera": Camera(20.0, 20.0, 16.0, 12.0, 32, 24),
        "answer": f"It is {1 + image}.0 meters away.",
        "category": category,
        "image_key": f"image {image}",
    }
    return Sample(**{**fields, **changes})


@pytest.fixture
def tiny(tiny_checkpoint):
    model = SmolRGPTForConditionalGeneration.from_pretrained(tiny_checkpoint, dtype=torch.float32, attn_implementation="eager")
    return model.eval(), SmolRGPTProcessor.from_pretrained(tiny_checkpoint)


@pytest.fixture
def make_monitor(tiny, tmp_path):
    def build(validation, training=()):
        return HealthMonitor(tiny[1], validation, [list(training)], Curve(tmp_path / "curve.jsonl", "stage"))

    return build


def test_every_image_gets_the_depth_of_another_and_keeps_the_rest():
    samples = [_sample(i, image=i // 2) for i in range(6)] + [_sample(6, image=3, depth=False)]
    permuted = permute_depth(samples)
    assert [s.id for s in permuted] == [s.id for s in samples[:6]]
    for before, after in zip(samples, permuted, strict=False):
        assert after.depth is not before.depth and after.image is before.image and after.camera == before.camera
    assert len({s.image_key for s in permuted}) == 3, "questions about one image stay together"
    assert permute_depth(samples[:2]) == [], "a single image has no other"


def test_training_questions_are_of_the_same_categories():
    wanted = [_sample(i, category=c) for i, c in enumerate(["count", "count", "mcq"])]
    training = [_sample(i, category=c) for i, c in enumerate(["count"] * 5 + ["left_right"] * 3)] + [
        _sample(9, category="mcq", answer=None)
    ]
    assert [s.category for s in match_categories(wanted, training)] == ["count", "count"]


def test_the_loss_is_the_mean_over_the_tokens_of_all_batches(tiny):
    model, processor = tiny
    texts = plain_english()
    assert len(texts) == 5 and all(text.count(".") >= 7 for text in texts)
    model.train()
    batches = [text_batch(processor.tokenizer, text[: 40 + 10 * i]) for i, text in enumerate(texts)]
    loss = mean_loss(model, batches, bf16=False)
    assert model.training, "the mode is put back"
    each, targets = [mean_loss(model, [batch], bf16=False) for batch in batches], [batch["labels"].shape[1] - 1 for batch in batches]
    assert loss == pytest.approx(np.average(each, weights=targets), rel=1e-5)


def test_a_model_that_ignores_depth_is_found(tiny, make_monitor):
    model, _ = tiny
    samples = [_sample(i, image=i) for i in range(6)]
    found = make_monitor(samples).measure(model, bf16=False)
    assert found["permuted_loss"] != found["validation_loss"]
    assert found["depth_permuted"] == found["permuted_loss"] / found["validation_loss"]
    with torch.no_grad():
        model.model.geometry_embedder.norm.weight.zero_()
        model.model.depth_connector.proj.weight.zero_()
    blind = make_monitor(samples).measure(model, bf16=False)
    assert blind["depth_permuted"] == pytest.approx(1.0, abs=1e-6)
    assert any("depth is ignored" in warning for warning in health_warnings(blind, stage_ends=True))
    assert not health_warnings(blind, stage_ends=False), "depth is learned late"
    assert not health_warnings(blind, stage_validates=False, stage_ends=True), "a stage of captions is no failure"


def test_what_cannot_be_measured_is_left_out(tiny, make_monitor):
    model, _ = tiny
    found = make_monitor([_sample(i, image=i, depth=False) for i in range(3)]).measure(model, bf16=False)
    assert not {"depth_permuted", "validation_rise", "perplexity"} & found.keys(), (
        "no depth, no training questions, random weights cannot read"
    )
    assert found["text_loss"] > health.READS_BELOW * math.log(model.config.text_config.vocab_size)


def test_forgetting_is_measured_from_the_first_perplexity_of_the_run(tiny, make_monitor, monkeypatch):
    model, _ = tiny
    monkeypatch.setattr(health, "READS_BELOW", math.inf)  # as if these random weights could read
    monitor = make_monitor([_sample(0)])
    before = monitor.measure(model, bf16=False)
    assert before["perplexity"] == 1.0
    monitor.curve.add(step=0, health={"text_loss": before["text_loss"] - math.log(3)})
    after = monitor.measure(model, bf16=False)
    assert after["perplexity"] == pytest.approx(3.0) and "forgotten" in health_warnings(after)[0]


@pytest.mark.slow
def test_overfitting_is_found(tiny, make_monitor):
    model, _ = tiny
    training = [_sample(i, image=i, answer=f"It is {i}{i} meters.") for i in range(4)]
    validation = [_sample(i, image=i + 4, answer=f"{i}{i} meters it is.") for i in range(4)]
    monitor = make_monitor(validation, training)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    rises = []
    for step in range(4):
        found = monitor.measure(model, bf16=False)
        monitor.curve.add(step=step, health=found)
        rises.append(found["validation_rise"])
        batch = monitor.batches("training" if step else "validation")[0]  # first the validation questions, then overfits to others
        for _ in range(12):
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert rises[:2] == [1.0, 1.0] and rises[-1] > health.OVERFITTING_ABOVE
    assert "overfitting" in health_warnings(found)[0] and not health_warnings(found, stage_validates=False)


def test_an_unreadable_image_is_left_out_not_fatal(tiny, make_monitor, tmp_path, caplog):
    (tmp_path / "broken.png").write_bytes(b"no image")
    found = make_monitor([dataclasses.replace(_sample(0), image=tmp_path / "broken.png")]).measure(tiny[0], bf16=False)
    assert "validation_loss" not in found
    assert "broken.png" in caplog.text


def test_rows_of_the_curve_are_plain_numbers(tiny, make_monitor):
    monitor = make_monitor([_sample(i, image=i) for i in range(3)])
    monitor._record(_Arguments, _State, tiny[0])
    monitor._record(_Arguments, _State, tiny[0], stage_ends=True)
    rows = read_curve(monitor.curve.path)
    assert len(rows) == 1, "the same step is measured once"
    assert json.dumps(rows[0]["health"]) and rows[0]["step"] == 7 and "S1" not in rows[0] and "event" not in rows[0]


class _Arguments:
    bf16 = False


class _State:
    global_step = 7
    is_world_process_zero = True
