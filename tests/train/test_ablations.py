"""Ablations: every variant is a model that can be built and sees as many questions; a finished run is never repeated."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import pytest
import torch

from smolrgpt.inference.predictor import bundled_checkpoint
from smolrgpt.model import SmolRGPTForConditionalGeneration
from smolrgpt.train import ablations
from smolrgpt.train.ablations import ABLATIONS, BACKBONES, ablate, mean_interval, variant_run
from smolrgpt.train.config import ModelSpec
from smolrgpt.train.trainer import build_model

VARIANTS = [(name, variant) for name, ablation in ABLATIONS.items() for variant in ablation.variants]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_variant_trains_as_many_steps_from_the_same_backbones(name: str, variant: str, tmp_path: Path) -> None:
    run = variant_run(ABLATIONS[name], variant, tmp_path, 200, 0)
    assert sum(stage.max_steps or 0 for stage in run.stages) == 200
    model, processor = build_model(run.model, None, [])
    bundled = SmolRGPTForConditionalGeneration.from_pretrained(bundled_checkpoint("nano"))
    kept = {key: value for key, value in bundled.state_dict().items() if "vision_tower." in key or "language_model." in key}
    if name == "resolution":  # resampled
        kept = {key: value for key, value in kept.items() if "position_embedding" not in key}
    assert kept and all((model.state_dict()[key] == value.float()).all() for key, value in kept.items())
    connector = next(key for key in model.state_dict() if "rgb_connector" in key and key.endswith("weight"))
    assert not torch.equal(model.state_dict()[connector], bundled.state_dict()[connector].float())
    assert tuple(processor.region_tokens) == tuple(model.config.region_tokens)


def test_variants_of_an_ablation_differ(tmp_path: Path) -> None:
    for ablation in ABLATIONS.values():
        runs = [variant_run(ablation, variant, tmp_path, 200, 0).to_json() for variant in ablation.variants]
        assert len(set(runs)) == len(runs)


def test_what_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    path = variant_run(ABLATIONS["depth"], "no depth anywhere", tmp_path, 200, 0).model.path
    with pytest.raises(ValueError, match="matches no parameter"):
        build_model(ModelSpec(path=path, keep="nothing_like_it"), None, [])
    with pytest.raises(ValueError, match="depth_connector.*no place"):
        build_model(ModelSpec(path=path, keep="depth_connector", config={"depth_path": "shared"}), None, [])


def test_an_ablation_goes_on_and_its_table_holds_means_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = ablations.base_run, []

    def small(out: Path, steps: int, seed: int):
        run = whole(out, steps, seed)
        return dataclasses.replace(run, data=dataclasses.replace(run.data, root=tmp_path / "data", num_scenes=2, num_val_scenes=1))

    monkeypatch.setattr(ablations, "base_run", small)
    monkeypatch.setattr(ablations, "TEST_SCENES", 2)
    train = ablations.train_run
    monkeypatch.setattr(ablations, "train_run", lambda run: calls.append(run.seed) or train(run))
    only = ["geometry alone", "rgb, depth and geometry"]
    ablate("regions", tmp_path / "out", steps=20, seeds=1, only=only[:1], num_questions=8)
    result = ablate("regions", tmp_path / "out", steps=20, seeds=1, only=only, num_questions=8)
    assert calls == [0, 0]
    assert [row["variant"] for row in result["rows"]] == only
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"models", "runs", "results.json", "report.md", "report.png"}
    assert "geometry alone" in (tmp_path / "out" / "report.md").read_text()
    assert not list((tmp_path / "out" / "models").iterdir()), "only scores are kept"
    for record in (tmp_path / "out" / "runs").glob("geometry*.json"):
        record.write_text(record.read_text().replace(result["base"], "another one"))
    assert [
        row["variant"] for row in ablate("regions", tmp_path / "out", steps=20, seeds=1, only=only[1:], num_questions=8)["rows"]
    ] == only[1:]
    assert calls == [0, 0], "runs from another checkpoint are in no table"
    with pytest.raises(ValueError, match="'depths'"):
        ablate("depths", tmp_path, steps=20, seeds=1)


def test_the_interval_is_students() -> None:
    mean, half = mean_interval([80.0, 82.0, 84.0])
    assert (mean, half) == (82.0, pytest.approx(4.30 * statistics.stdev([80, 82, 84]) / 3**0.5))
    assert mean_interval([5.0]) == (5.0, None)


def test_the_backbones_are_the_tower_and_the_language_model() -> None:
    assert "vision_tower" in BACKBONES and "language_model" in BACKBONES
