"""Ablations: every variant is a model that can be built and sees as many questions; a finished run is never repeated."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from pathlib import Path

import numpy as np
import pytest
import tiny_run
import torch

from smolrgpt.data import worlds
from smolrgpt.data.worlds import write_dataset
from smolrgpt.inference.checkpoints import bundled_checkpoint
from smolrgpt.model import SmolRGPTForConditionalGeneration, SmolRGPTImageProcessor, SmolRGPTProcessor
from smolrgpt.schema import Region, Sample
from smolrgpt.train import ablations
from smolrgpt.train.ablation_models import PatchPooling, SharedConnector, SharedDepth, SharedRefiner
from smolrgpt.train.ablations import ABLATIONS, BACKBONES, ablate, mean_interval, variant_run, write_boxes
from smolrgpt.train.build import build_model
from smolrgpt.train.config import ModelSpec
from smolrgpt.train.tokenizer import train_tokenizer

pytestmark = pytest.mark.slow  # many cases, each short

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
        runs = [(variant_run(ablation, name, tmp_path, 200, 0).to_json(), name in ablation.boxed) for name in ablation.variants]
        assert len(set(runs)) == len(runs)


def test_what_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    path = variant_run(ABLATIONS["depth"], "no depth anywhere", tmp_path, 200, 0).model.path
    with pytest.raises(ValueError, match="matches no parameter"):
        build_model(ModelSpec(path=path, keep_pattern="nothing_like_it"), None, [])
    shared = variant_run(ABLATIONS["depth"], "connector shared, own refiner", tmp_path, 200, 0).model
    with pytest.raises(ValueError, match=r"depth_connector.*no place"):
        build_model(dataclasses.replace(shared, keep_pattern="depth_connector"), None, [])


def test_boxes_may_be_written_after_each_region() -> None:
    """In percent of the image, whatever the mask's own size; a question without boxes stays what it was."""
    masks = np.zeros((216, 384), dtype=bool), np.zeros((108, 192), dtype=bool)
    masks[0][54:108, 96:384] = True
    masks[1][27:54, 0:48] = True
    sample = Sample("1", Path("1.png"), "<mask>, <mask>!", regions=tuple(map(Region.from_mask, masks)))
    (boxed,) = write_boxes([sample])
    assert boxed.question == "<mask> (25,25,100,50), <mask> (0,25,25,50)!" and sample.question == "<mask>, <mask>!"
    tokenizer = train_tokenizer(["Region 0 1 (25,25,100,50), (0,25,25,50)!"] * 3, 400)
    processor = SmolRGPTProcessor(SmolRGPTImageProcessor(), tokenizer, ("rgb",), region_labels=True)
    text = tokenizer.decode(processor.encode_text(boxed.question, 2, with_image=False)["input_ids"])
    assert "user\n[Region 0]<mask_rgb> (25,25,100,50), [Region 1]<mask_rgb> (0,25,25,50)!<|im_end|>" in text


TINY_FIELDS = {
    "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    | {"num_attention_heads": 2, "image_size": 32, "patch_size": 8},
    "text_config": {"model_type": "llama", "vocab_size": 64, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1}
    | {"num_attention_heads": 3, "num_key_value_heads": 1, "pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "image_token_id": 60,
    "region_token_ids": {"rgb": 61, "depth": 62, "geo": 63},
    "refiner_stages": 2,
}
SHARED = {SharedDepth: {"connector", "refiner"}, SharedConnector: {"connector"}, SharedRefiner: {"refiner"}}


def tiny_variant(model_class: type[SmolRGPTForConditionalGeneration], **fields) -> SmolRGPTForConditionalGeneration:
    torch.manual_seed(0)
    return model_class(model_class.config_class(**{**TINY_FIELDS, **fields}))


def tiny_batch(model: SmolRGPTForConditionalGeneration) -> dict[str, torch.Tensor]:
    """One question about one region of one image."""
    kinds = model.config.region_tokens
    ids = [1, *[60] * model.config.num_image_tokens, 5, *(model.config.region_token_ids[kind] for kind in kinds), 6, 7]
    return {
        "input_ids": torch.tensor([ids]),
        "labels": torch.tensor([[-100] * (len(ids) - 2) + ids[-2:]]),
        "pixel_values": torch.randn(1, 3, 32, 32),
        "depth_values": torch.randn(1, 3, 32, 32),
        "region_masks": torch.rand(1, model.config.grid_size, model.config.grid_size),
        "region_geometry": torch.rand(1, model.config.geometry_dim),
        "region_index": torch.tensor([[0]]) if kinds else torch.empty(1, 0, dtype=torch.long),
    }


@pytest.mark.parametrize("region_tokens", [("rgb", "depth"), ("rgb", "depth", "geo")])
@pytest.mark.parametrize("model_class", SHARED)
def test_every_sharing_trains(model_class, region_tokens) -> None:
    model = tiny_variant(model_class, region_tokens=region_tokens).train()
    model(**tiny_batch(model)).loss.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    names = {name.split(".")[1] for name, _ in model.named_parameters()}
    assert {part for part in ("connector", "refiner") if f"depth_{part}" not in names} == SHARED[model_class]


@pytest.mark.parametrize("region_tokens", [("rgb", "depth"), ("depth",), ("depth", "geo"), ("rgb",), ("geo",), (), ("rgb", "geo")])
def test_pooling_from_patches_trains(region_tokens) -> None:
    model = tiny_variant(PatchPooling, region_tokens=region_tokens, refiner_stages=0).train()
    model(**tiny_batch(model)).loss.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_shared_weights_treat_depth_like_rgb() -> None:
    model = tiny_variant(SharedDepth, region_tokens=("rgb", "depth", "geo"))
    batch = tiny_batch(model)
    tokens = model(**{**batch, "depth_values": batch["pixel_values"]}).region_features.tokens
    torch.testing.assert_close(tokens["rgb"], tokens["depth"])


@torch.no_grad()
def test_pooling_from_the_towers_grid_is_finer_than_from_the_connectors() -> None:
    """A region of one patch is a linear function of that patch alone; the connector's cell mixes it with its neighbours."""
    model = tiny_variant(PatchPooling, region_tokens=("rgb",), refiner_stages=0).eval()
    inner, side = model.model, model.config.patches_per_side
    assert model.config.grid_size == side > model.config.tokens_per_side
    pixels = tiny_batch(model)["pixel_values"]
    masks = torch.zeros(1, side, side)
    masks[0, 1, 2] = 1.0
    pooled = inner.pool_regions(inner.encode_images(pixels).region_maps, masks).tokens["rgb"]
    expected = inner.rgb_patch_connector.proj(inner.encode_patches(pixels)[:, side + 2])
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_class", [*SHARED, PatchPooling])
def test_a_variant_survives_saving(model_class, tmp_path: Path) -> None:
    model = tiny_variant(model_class, refiner_stages=0 if model_class is PatchPooling else 2)
    model.save_pretrained(tmp_path)
    again = model_class.from_pretrained(tmp_path)
    assert again.config.grid_size == model.config.grid_size
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_an_ablation_goes_on_and_its_table_holds_means_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = ablations.base_run, []

    def small(out: Path, steps: int, seed: int):
        run = whole(out, steps, seed)
        return dataclasses.replace(
            run, data=dataclasses.replace(run.data, root=tmp_path / "data", num_scenes=2, num_val_scenes=1, size=tiny_run.SMALL["size"])
        )

    monkeypatch.setattr(ablations, "base_run", small)
    for module in (ablations, worlds):
        monkeypatch.setattr(module, "write_dataset", functools.partial(write_dataset, **tiny_run.SMALL))
    monkeypatch.setattr(ablations, "TEST_SCENES", 2)
    train = ablations.train_run
    monkeypatch.setattr(ablations, "train_run", lambda run, **options: calls.append(run.seed) or train(run, **options))
    only = ["geometry alone", "rgb, depth and geometry"]
    ablate("regions", tmp_path / "out", steps=4, seeds=1, only=only[:1], num_questions=8)
    result = ablate("regions", tmp_path / "out", steps=4, seeds=1, only=only, num_questions=8)
    assert calls == [0, 0]
    assert [row["variant"] for row in result["rows"]] == only
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"models", "runs", "results.json", "report.md", "report.png"}
    assert "geometry alone" in (tmp_path / "out" / "report.md").read_text()
    assert not list((tmp_path / "out" / "models").iterdir()), "only scores are kept"
    for record in (tmp_path / "out" / "runs").glob("geometry*.json"):
        record.write_text(record.read_text().replace(result["base"], "another one"))
    assert [
        row["variant"] for row in ablate("regions", tmp_path / "out", steps=4, seeds=1, only=only[1:], num_questions=8)["rows"]
    ] == only[1:]
    assert calls == [0, 0], "runs from another checkpoint are in no table"
    with pytest.raises(ValueError, match="'depths'"):
        ablate("depths", tmp_path, steps=4, seeds=1)


def test_the_interval_is_students() -> None:
    mean, half = mean_interval([80.0, 82.0, 84.0])
    assert (mean, half) == (82.0, pytest.approx(4.30 * statistics.stdev([80, 82, 84]) / 3**0.5))
    assert mean_interval([5.0]) == (5.0, None)


def test_the_backbones_are_the_tower_and_the_language_model() -> None:
    assert "vision_tower" in BACKBONES and "language_model" in BACKBONES
