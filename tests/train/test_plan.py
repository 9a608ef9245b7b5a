"""The plan agrees with what it foretells: parameters of the built model, FLOPs and memory of a real step."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Dinov2Config, LlamaConfig, LlamaForCausalLM, SiglipConfig, SiglipModel

from smolrgpt.model import REGION_GEOMETRY_FEATURES, SmolRGPTConfig, SmolRGPTForConditionalGeneration
from smolrgpt.model.processing_smolrgpt import NUM_REGION_NAMES
from smolrgpt.train import build, fake_step, recipes
from smolrgpt.train import plan as planning
from smolrgpt.train.config import ModelSpec
from smolrgpt.train.optim import apply_rates
from smolrgpt.train.tokenizer import SPECIAL_TOKENS, train_tokenizer
from tools.real_weights import VIT_CONFIG

pytestmark = pytest.mark.slow  # many cases, each short

WIDE = {
    "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
    | {"num_attention_heads": 4, "image_size": 64, "patch_size": 8, "vision_use_head": False},
    "text_config": {"model_type": "llama", "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "vocab_size": 500, "tie_word_embeddings": True, "pad_token_id": 2},
    "image_token_id": 490,
    "region_token_ids": {"rgb": 491, "depth": 492, "geo": 493},
    "refiner_stages": 2,
}
DESIGNS = {
    "published": {"region_tokens": ["rgb", "depth"]},
    "ours": {**recipes.full().model.config, "region_name_token_ids": list(range(450, 482)), "size_word_ids": {"width": 8, "height": 9}},
}
SMOLLM2_135M = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9} | {
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
SHAPE = fake_step.StepShape(images=6, questions_per_image=2, question_tokens=20, answer_tokens=12, regions=3)


def real_batch(config: SmolRGPTConfig, shape: fake_step.StepShape) -> dict[str, torch.Tensor]:
    """What the collator would give for a step of this shape: every question as long as the mean one."""
    count, side = shape.images * shape.questions_per_image, config.vision_config.image_size
    regions = shape.images * shape.questions_per_image * shape.regions
    if config.region_fusion == "name":
        written = config.region_name_token_ids[: shape.regions]
    else:
        written = [config.region_token_ids[kind] for _ in range(shape.regions) for kind in config.region_tokens]
    words = [5] * (fake_step.TURN_TOKENS - 2 + shape.question_tokens)
    row = torch.tensor([config.image_token_id] * config.num_image_tokens + written + words + [7] * (shape.answer_tokens + 2))
    labels = torch.full((count, len(row)), -100)
    labels[:, -(shape.answer_tokens + 2) :] = 7
    return {
        "input_ids": row.repeat(count, 1),
        "attention_mask": torch.ones(count, len(row), dtype=torch.long),
        "labels": labels,
        "pixel_values": torch.randn(shape.images, 3, side, side),
        "depth_values": torch.randn(shape.images, 3, side, side),
        "region_masks": torch.rand(regions, config.grid_size, config.grid_size),
        "region_geometry": torch.rand(regions, len(REGION_GEOMETRY_FEATURES)),
        "region_image_index": torch.arange(shape.images).repeat_interleave(regions // shape.images),
        "image_index": torch.arange(shape.images).repeat_interleave(shape.questions_per_image),
        "region_index": torch.arange(regions).view(count, shape.regions),
    }


def peak_bytes(step) -> int:
    """The most bytes that torch's CPU allocator held at once during a call, above what it held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    held = peak = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@pytest.mark.slow
@pytest.mark.parametrize(("design", "stage"), [("published", 0), ("published", 1), ("ours", 2)])
def test_flops_and_memory_are_those_of_a_real_step(design: str, stage: int) -> None:
    """Within 3 % and 10 %; gradients are dropped on both sides, they are counted apart."""
    config, rates = SmolRGPTConfig(**{**WIDE, **DESIGNS[design]}), recipes.full().stages[stage].rates
    with fake_step.fake_tensors():
        fake = fake_step.fake_model(config)
        apply_rates(fake, rates)
        flops, activations = fake_step.measure_step(fake, SHAPE, blind=False, bf16=False)
    real = SmolRGPTForConditionalGeneration._from_config(config, dtype=torch.float32, attn_implementation="eager").train()
    apply_rates(real, rates)
    batch = real_batch(config, SHAPE)
    with FlopCounterMode(display=False) as counter:
        real(**batch).loss.backward()
    assert flops == pytest.approx(counter.get_total_flops(), rel=0.03)

    real.zero_grad()
    real.set_attn_implementation("sdpa")
    for parameter in real.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda it: setattr(it, "grad", None))
    assert activations == pytest.approx(peak_bytes(lambda: real(**batch).loss.backward()), rel=0.1)


def test_parameters_are_those_of_the_model_that_is_built(tmp_path) -> None:
    """Pretrained backbones with a vocabulary of their own, placeholders and names added; stage by stage."""
    words = train_tokenizer(["Which pallet is left of the other?"], 300)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    siglip = SiglipConfig(vision_config={**small, "image_size": 32, "patch_size": 8}, text_config={**small, "vocab_size": 50})
    SiglipModel(siglip).save_pretrained(tmp_path / "vision")
    (tmp_path / "vision" / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    run = recipes.full()
    found = run.model
    backbones = (str(tmp_path / "vision"), str(tmp_path / "text"))
    spec = dataclasses.replace(found, backbones=backbones, config={**found.config, "refiner_stages": 1})
    fresh = [*SPECIAL_TOKENS[3:], *(f"[Region {i}]" for i in range(NUM_REGION_NAMES))]
    plain = len(words) - len(fresh)  # SmolLM2's vocabulary has none of these
    LlamaForCausalLM(LlamaConfig(vocab_size=plain, num_key_value_heads=1, **small)).save_pretrained(tmp_path / "text")
    words.save_pretrained(tmp_path / "text")
    model, _ = build.build_model(spec, "eager", [])
    with fake_step.fake_tensors():
        planned = fake_step.fake_model(planning.model_config(spec))
    for stage in run.stages:
        apply_rates(model, stage.rates)
        apply_rates(planned, stage.rates)
        sizes = [{(name, tuple(p.shape), p.requires_grad) for name, p in m.named_parameters()} for m in (model, planned)]
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_has_a_model_and_an_epoch(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Dinov2Config(**VIT_CONFIG).save_pretrained("weights/vit-s14")  # what make real-weights would bring, without the weights
    LlamaConfig(**SMOLLM2_135M).save_pretrained("weights/smollm2-135m-instruct")
    run = recipes.RECIPES[name]()
    with fake_step.fake_tensors():
        total = sum(p.numel() for p in fake_step.fake_model(planning.model_config(run.model)).parameters())
    facts = planning.source_facts(run)
    assert all(planning.plan_epoch(stage, facts).groups > 0 for stage in run.stages)
    if name == "paper":
        assert total == sum(p.numel() for p in published_shapes().parameters()) and round(total / 1e6, 1) == 475.7


def published_shapes() -> SmolRGPTForConditionalGeneration:
    with torch.device("meta"):
        model = SmolRGPTForConditionalGeneration(SmolRGPTConfig())
    model.tie_weights()
    return model


def tiny_run(**changes):
    config = {"vision_config": dict(WIDE["vision_config"]), "text_config": dict(WIDE["text_config"]), "refiner_stages": 2}
    return dataclasses.replace(recipes.paper(), model=ModelSpec(config=config, vocab_size=500), **changes)


@pytest.mark.slow
def test_the_plan_adds_up() -> None:
    result = planning.plan(tiny_run(), flops_per_second=1e12, gpus=(1, 4), progress=False)
    align, warm_up, tune = result["stages"]
    assert [stage["steps"] for stage in result["stages"]] == [20 * 2419, 4777, 20 * 4457]  # the data sets by 240, 224 and 112
    assert align["trainable"] < warm_up["trainable"] < tune["trainable"] < tune["parameters"] == tune["trainable"] + tune["frozen"]
    for stage in result["stages"]:
        assert stage["flops"] == stage["flops_per_step"] * stage["steps"] and stage["flops_per_step"] > 0
        assert stage["hours"][1] == pytest.approx(4 * stage["hours"][4]) == pytest.approx(stage["flops"] / 1e12 / 3600)
        one, four = stage["memory_bytes"][1]["ddp"], stage["memory_bytes"][4]
        assert one == stage["memory_bytes"][1]["fsdp"] and one["weights"] == 4 * stage["parameters"]
        assert one["optimizer"] == 2 * one["gradients"] == 8 * stage["trainable"]
        assert four["fsdp"]["total"] < four["ddp"]["total"] < one["total"] and four["ddp"]["activations"] < one["activations"]
        for parts in (one, *four.values()):
            assert parts["total"] == sum(size for name, size in parts.items() if name != "total")
    assert "475" not in planning.format_plan(result) and "fine-tune" in planning.format_plan(result)


def test_frozen_features_take_what_the_cache_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """RGB and depth of an image of the three sets take 256 patches of 768 numbers of 2 bytes each; nothing where the tower learns."""
    monkeypatch.setattr(planning, "measure_step", lambda *args, **kwargs: (1, 1))  # features do not depend on the work of a step
    run = recipes.paper()
    images = sum(planning.PUBLISHED[reader].images for reader in ("llava_cc3m", "osd", "warehouse"))
    assert planning.plan(run, progress=False)["feature_bytes"] == images * 2 * 256 * 768 * 2
    learning = dataclasses.replace(run, stages=tuple(dataclasses.replace(stage, rates=((".", 1e-4),)) for stage in run.stages))
    assert planning.plan(learning, progress=False)["feature_bytes"] == 0
    assert planning.plan(recipes.nano(), progress=False)["feature_bytes"] == 8000 * 2 * 256 * 128 * 2, (
        "sources of a synthetic set share images"
    )


@pytest.mark.slow
def test_recomputing_saves_memory_and_costs_flops() -> None:
    one, two = (
        planning.plan(
            dataclasses.replace(tiny_run(), stages=recipes.paper(stage="fine-tune").stages, gradient_checkpointing=on), progress=False
        )
        for on in (False, True)
    )
    assert two["flops"] > one["flops"]
    assert two["stages"][0]["memory_bytes"][1]["ddp"]["activations"] < one["stages"][0]["memory_bytes"][1]["ddp"]["activations"]


def test_what_is_not_known_is_an_error() -> None:
    run = recipes.paper()
    data = dataclasses.replace(run.data, sources={**run.data.sources, "osd": ("label_studio", run.out, "train")})
    with pytest.raises(ValueError, match="label_studio"):
        planning.source_facts(dataclasses.replace(run, data=data))
    stage = dataclasses.replace(run.stages[0], mixture={"nothing": 1.0})
    with pytest.raises(ValueError, match="nothing"):
        planning.plan_epoch(stage, planning.source_facts(run))
    with pytest.raises(ValueError, match="expected > 0"):
        planning.plan(run, flops_per_second=0)
    with pytest.raises(ValueError, match="absent/vision"):
        planning.model_config(dataclasses.replace(run.model, backbones=("absent/vision", "absent/text")))


def test_the_command_prints_json_and_starts_nothing(tmp_path, capsys, monkeypatch) -> None:
    from smolrgpt.cli import main as cli

    monkeypatch.setattr(planning, "measure_step", lambda *arguments: (10**12, 10**9))  # takes seconds, and is tested above
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "nano", "--dry-run", "--json", "--gpus", "1", "--flops", "1e12", "--out", str(tmp_path / "run")])
    result = json.loads(capsys.readouterr().out)
    assert not stop.value.code and [stage["name"] for stage in result["stages"]] == [stage.name for stage in recipes.nano().stages]
    assert not (tmp_path / "run").exists()
