"""Recipes: functions that return the configuration of a run, for ``trainer.run``."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smolrgpt.train.config import FolderData, LossWeights, ModelSpec, Rates, Run, Stage, SyntheticData, WorldsData
from smolrgpt.train.lora import ADAPTERS

#: Patterns for the rates of a stage.
VISION, LANGUAGE = r"vision_tower\.", r"language_model\."
RGB_CONNECTOR, CONNECTORS, REFINERS, ALL = r"\.rgb_connector\.", r"_connector\.", r"_refiner\.", r"."

#: Modules that the published model does not have.
OURS = r"geometry_|pair_embedder\.|region_norms\."

#: Findings of the experiments with nano (dev/LOG.md), for any size. Trained alike, the published design without them reaches S1
#: 28.4, and this one 87.0. A comment gives the gain of an entry alone, where it was measured.
_DESIGN: dict[str, Any] = {
    "region_tokens": ["rgb", "depth", "geo"],
    "region_fusion": "name",  # loss on surveys of 3 to 10 regions after 300 steps: 0.89 -> 0.73
    "pair_geometry": True,  # loss on relations after 400 steps: 0.44 -> 0.32
    "region_norm": True,
    "predicts_geometry": True,
    "estimates_sizes": True,  # heights right within 25 %: 51 -> 96 %
    "estimates_distance": True,  # right after 400 steps, at the position of the number instead of the name: 72.5 -> 89.5 %
}
#: The bundled model: small, nothing pretrained; one CPU core trains it in about two hours.
_NANO_CONFIG: dict[str, Any] = {
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 256,
        "patch_size": 16,
        "hidden_act": "gelu",
        "vision_use_head": False,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": True,
        "initializer_range": 0.06,  # about width ** -0.5; fits the training data far faster than 0.02
    },
    "pixel_shuffle_factor": 4,
    **_DESIGN,
}
_NANO_PROCESSOR: dict[str, Any] = {"mask_resize": "area", "depth_encoding": "minmax_log"}  # not measured separately


def nano(out: Path | None = None, data_root: Path | None = None, quick: bool = False, seed: int = 0) -> Run:
    """Return the run of the bundled model: new weights, the synthetic warehouse, seven stages; ``quick``: the first three, short."""
    rate = 8e-4 if quick else 5e-4  # measured; at 2e-3 a model of this size stays at chance
    stages = (
        _synthetic_stage("align", ((ALL, rate),), {"captions": 1.0}, steps=40 if quick else 100),
        _synthetic_stage("warm-up", ((ALL, rate),), {"warmup": 1.0, "captions": 0.1}, steps=500 if quick else 2000),
        _synthetic_stage(
            "fine-tune",
            ((VISION, None), (ALL, rate)),
            {"train": 1.0, "warmup": 0.3},
            steps=1600 if quick else 10000,
            validations=4 if quick else 5,
        ),
    )
    return Run(
        name="nano",
        out=out or Path("runs/nano-quick" if quick else "runs/nano"),
        model=ModelSpec(config=_NANO_CONFIG, processor=_NANO_PROCESSOR),
        data=SyntheticData(
            root=data_root or Path("runs/data/nano-quick" if quick else "runs/data/nano"),
            num_scenes=2000 if quick else 8000,
            seed=1,
            relative_depth_fraction=0.25,
            no_camera_fraction=0.0 if quick else 0.1,
            no_depth_fraction=0.0 if quick else 0.1,
        ),
        stages=stages if quick else (*stages, *_nano_later_stages()),
        answer_style="steps",
        validation_questions=600,
        seed=seed,
    )


def _nano_later_stages() -> tuple[Stage, ...]:
    """Return the stages after fine-tuning: a lower rate, and each with more of the questions that the model before it answered worst."""
    rates = ((VISION, None), (ALL, 3e-4))
    # questions without metric depth
    polish = {"train": 1.0, "train_relative": 0.5, "warmup": 0.3}
    # slightly wrong masks: S1 with masks two pixels too large 91.5 -> 97.5, with boxes 83.5 -> 91.8, with exact ones 99.2 -> 98.3
    mask_jitter = {"train_mask_jitter": 1.0, "train": 0.5, "train_relative": 0.5, "warmup": 0.1}
    # widths, heights and order in depth
    sizes = {"extra": 1.0, "train_mask_jitter": 0.5, "train": 0.6, "train_relative": 0.5, "warmup": 0.1}
    # everyday language, also with slightly wrong masks, as drawn ones are
    plain = {"plain": 1.0, "plain_mask_jitter": 1.0, "extra": 1.0}
    plain |= {"train_mask_jitter": 0.3, "train": 0.4, "train_relative": 0.4, "warmup": 0.05}
    return (
        _synthetic_stage("polish", rates, polish, steps=6000, validations=3),
        _synthetic_stage("mask-jitter", rates, mask_jitter, steps=3000, validations=1),
        _synthetic_stage("sizes", rates, sizes, steps=1500, validations=1),
        _synthetic_stage("plain", rates, plain, steps=2000, validations=1),
    )


def _synthetic_stage(
    name: str, rates: Rates, mixture: dict[str, float], steps: int, validations: int = 0, final_rate: float = 0.02
) -> Stage:
    """Return a stage of twenty questions a step, with a checkpoint at every validation, else one at the end."""
    every = max(1, steps // max(1, validations))
    return Stage(
        name,
        rates,
        mixture,
        max_steps=steps,
        images_per_step=5,
        questions_per_image=4,
        final_rate=final_rate,
        eval_every=every if validations else None,
        save_every=every,
    )


def _nano_variant(name: str, config: dict[str, Any], processor: dict[str, Any], **options: Any) -> Run:
    run = nano(**options)
    model = dataclasses.replace(run.model, config={**run.model.config, **config}, processor={**run.model.processor, **processor})
    out = options.get("out") or run.out.with_name(run.out.name.replace("nano", name))
    return dataclasses.replace(run, name=name, model=model, out=out)


def nano_published(**options: Any) -> Run:
    """Return the run of the published design, trained as ``nano``: RGB and depth tokens, bilinear masks, min-max depth, no estimates."""
    config = {
        "region_tokens": ["rgb", "depth"],
        "region_fusion": "tokens",
        "pair_geometry": False,
        "region_norm": False,
        "predicts_geometry": False,
        "estimates_distance": False,
        "estimates_sizes": False,
    }
    return _nano_variant("nano-published", config, {"mask_resize": "bilinear", "depth_encoding": "minmax"}, **options)


def nano_blind(**options: Any) -> Run:
    """Return the run of ``nano`` on text alone, without image and region tokens: the score of guessing from the wording."""
    config = {
        "region_tokens": [],
        "region_fusion": "tokens",
        "pair_geometry": False,
        "predicts_geometry": False,
        "estimates_distance": False,
        "estimates_sizes": False,
    }
    return _nano_variant("nano-blind", config, {"num_image_tokens": 0}, **options)


def nano_plain(out: Path | None = None, data_root: Path | None = None, seed: int = 0) -> Run:
    """Return the last stage of ``nano`` as a run from the bundled model: questions in everyday language (``evaluate --benchmark plain``).

    ``--set model.path=FOLDER`` starts from another model.
    """
    from smolrgpt.inference.checkpoints import bundled_checkpoint

    whole = nano(data_root=data_root, seed=seed)
    model = ModelSpec(path=bundled_checkpoint("nano"))
    return dataclasses.replace(
        whole, name="nano-plain", out=out or Path("runs/nano-plain"), model=model, stages=whole.stages[-1:], cache_gb=4.0
    )


#: Of the model for any camera: lengths are copied from what is measured, not spelled.
_ABROAD_CONFIG = {
    name: value for name, value in _NANO_CONFIG.items() if name not in ("pair_geometry", "estimates_sizes", "estimates_distance")
}
_ABROAD_CONFIG |= {"copies_lengths": True}
#: Set of scenes -> what it is of: the warehouse with perfect depth, each world at its own scale as sensors see it, and all of them at
#: any scale. Every set has a seed of its own.
_WORLD_SETS: dict[str, dict[str, Any]] = {
    "home": {"seed": 1, "size": (384, 216)},
    "tabletop": {"world": "tabletop", "sensor": "mixed", "seed": 2},
    "room": {"world": "room", "sensor": "mixed", "seed": 3},
    "yard": {"world": "yard", "sensor": "mixed", "seed": 4},
    "any": {"world": "mixed", "sensor": "mixed", "scales": (0.03, 10.0), "seed": 5},
}


def _worlds(root: Path, scenes: int, val_scenes: int, **options: Any) -> WorldsData:
    """Return the sets of ``_WORLD_SETS``, each with this many scenes, with depth and masks as people have them."""
    shares = {"relative_depth_fraction": 0.15, "no_camera_fraction": 0.1, "no_depth_fraction": 0.1, "mask_jitter_fraction": 0.5}
    common = {"num_scenes": scenes, "num_val_scenes": val_scenes, "questions_per_scene": 48, "size": (320, 240), **shares, **options}
    common["validation"] = ("val", "val_plain", "val_extra")
    return WorldsData({name: SyntheticData(root=root / name, **{**common, **own}) for name, own in _WORLD_SETS.items()})


def _every_world(**times: float) -> dict[str, float]:
    """Return the mixture that takes sources of every set this many times."""
    return {f"{name}:{source}": value for name in _WORLD_SETS for source, value in times.items()}


def nano_abroad(out: Path | None = None, data_root: Path | None = None, quick: bool = False, seed: int = 0) -> Run:
    """Return the run of a small model for any camera, scale and scene: new weights, four worlds, four stages; ``quick``: few steps.

    The vision tower learns in the first two stages. Half of the questions name their regions from any ``[Region k]`` on, so that longer
    lists than any trained one meet no new name.
    """
    rate, frozen = 8e-4 if quick else 5e-4, (VISION, None)
    learned = _every_world(train=0.5, plain=1.0, extra=1.0)
    stages = (
        _wide_stage("align", ((ALL, rate),), _every_world(captions=1.0), 40 if quick else 200),
        _wide_stage("warm-up", ((ALL, rate),), _every_world(warmup=1.0, captions=0.1), 300 if quick else 4000),
        _wide_stage("fine-tune", (frozen, (ALL, rate)), {**learned, **_every_world(warmup=0.2)}, *((600, 3) if quick else (24000, 12))),
        _wide_stage("polish", (frozen, (ALL, rate / 2)), learned, *((200, 2) if quick else (16000, 8))),
    )
    folder = data_root or Path("runs/data/nano-abroad-quick" if quick else "runs/data/nano-abroad")
    return Run(
        name="nano-abroad",
        out=out or Path("runs/nano-abroad-quick" if quick else "runs/nano-abroad"),
        model=ModelSpec(config=_ABROAD_CONFIG, processor={"mask_resize": "area", "depth_encoding": "ranks"}, vocab_size=2048),
        data=_worlds(folder, scenes=400 if quick else 1600, val_scenes=12 if quick else 40),
        stages=stages,
        loss_weights=LossWeights(0.5, 0.1, 0.1),
        answer_style="copied",
        region_offset_fraction=0.5,
        feature_cache=folder / "features",
        compile_layers=True,
        validation_questions=200 if quick else 500,
        cache_gb=7.0,
        seed=seed,
    )


def _wide_stage(name: str, rates: Rates, mixture: dict[str, float], steps: int, validations: int = 0) -> Stage:
    """Return a stage of up to sixty questions a step, ten about each image, with a checkpoint every few minutes."""
    every = max(1, steps // max(1, validations))
    stage = _synthetic_stage(name, rates, mixture, steps, validations)
    return dataclasses.replace(stage, images_per_step=6, questions_per_image=10, save_every=every if validations else min(steps, 1000))


#: The backbones of the paper, which an ``SmolRGPTConfig`` without arguments describes.
PUBLISHED_BACKBONES = ("google/siglip2-base-patch16-256", "HuggingFaceTB/SmolLM2-360M-Instruct")
#: The published curriculum (arXiv 2509.15490), rates as released.
_PAPER_STAGES = (
    Stage(
        "align",
        ((RGB_CONNECTOR, 1e-4), (ALL, None)),
        {"captions": 1.0},
        epochs=20,
        images_per_step=240,
        questions_per_image=1,
        save_every=1000,
    ),
    Stage(
        "warm-up",
        ((REFINERS, 1e-4), (CONNECTORS, 5e-5), (ALL, None)),
        {"osd": 1.0},
        epochs=1,
        images_per_step=224,
        questions_per_image=1,
        save_every=500,
    ),
    Stage(
        "fine-tune",
        ((VISION, None), (ALL, 5e-5)),
        {"warehouse": 1.0},
        epochs=20,
        images_per_step=112,
        questions_per_image=1,
        eval_every=1000,
        save_every=1000,
        early_stopping_patience=4,
    ),
)


def _six_questions(stage: Stage) -> Stage:
    """Return the stage with as many questions a step, six about each image."""
    return dataclasses.replace(stage, questions_per_image=6, images_per_step=-(-stage.images_per_step // 6))


_align, _warm_up, _fine_tune = _PAPER_STAGES
#: Of ``full``: in the warm-up, the modules that the published model lacks learn with the refiners.
_FULL_STAGES = (
    _align,
    _six_questions(dataclasses.replace(_warm_up, rates=((OURS, 1e-4), *_warm_up.rates))),
    _six_questions(_fine_tune),
)


def _published_data(data_root: Path | None) -> FolderData:
    root = data_root or Path("data")
    return FolderData(
        sources={
            "captions": ("llava_cc3m", root / "llava_cc3m", "train"),
            "osd": ("osd", root / "osd", "train"),
            "warehouse": ("warehouse", root / "warehouse", "train"),
            "validation": ("warehouse", root / "warehouse", "val"),
        },
        prepared=root / "prepared",
    )


def _named(stages: tuple[Stage, ...], name: str | None) -> tuple[Stage, ...]:
    """Return all stages, or the one of this name. Raises ValueError for another name."""
    if name is not None and name not in (names := [stage.name for stage in stages]):
        raise ValueError(f"stage {name!r} is not one of {', '.join(names)}")
    return tuple(stage for stage in stages if name in (None, stage.name))


def paper(out: Path | None = None, data_root: Path | None = None, stage: str | None = None, seed: int = 0) -> Run:
    """Return the run of the published curriculum: SigLIP2-base and SmolLM2-360M on captions, OSD and the warehouse.

    The sets lie in DATA_ROOT/llava_cc3m, osd and warehouse (docs/how-to/train-on-real-data.md). They are more than memory holds, so a
    run first prepares what is not yet in DATA_ROOT/prepared. stage: train this one alone. Raises ValueError for an unknown one.
    """
    return Run(
        name="paper",
        out=out or Path("runs/paper"),
        model=ModelSpec(backbones=PUBLISHED_BACKBONES),
        data=_published_data(data_root),
        stages=_named(_PAPER_STAGES, stage),
        seed=seed,
        cache_gb=0.0,
    )


def full(out: Path | None = None, data_root: Path | None = None, stage: str | None = None, seed: int = 0) -> Run:
    """Return the run of the published curriculum and size with what experiments with nano found (dev/LOG.md); not yet trained at this size.

    A step shows as many questions as the published one, about fewer images: six each, as the warehouse has them (captions: one). The
    loader prepares those 5.8 times as fast as one by one (benchmarks/loader.py), and the encoder runs once for all six.
    """
    run = paper(out or Path("runs/full"), data_root, stage, seed)
    model = dataclasses.replace(run.model, config=_DESIGN, processor=_NANO_PROCESSOR)
    return dataclasses.replace(run, name="full", model=model, stages=_named(_FULL_STAGES, stage))


def smollm2_135m(out: Path | None = None, data_root: Path | None = None, quick: bool = False, seed: int = 0) -> Run:
    """Return the run of a pretrained ViT-S/14 and SmolLM2-135M-Instruct (``make real-weights``) on the synthetic warehouse.

    S1 is 87 after 420 of the 800 fine-tuning steps of ``quick`` (dev/LOG.md); not yet trained at full length. 224 pixels are 16 x 16
    patches, so 64 image tokens. The tower is frozen; the language model learns after the alignment.
    """
    stage = functools.partial(_synthetic_stage, final_rate=0.1)
    return Run(
        name="smollm2-135m",
        out=out or Path("runs/smollm2-135m-quick" if quick else "runs/smollm2-135m"),
        model=ModelSpec(
            backbones=("weights/vit-s14", "weights/smollm2-135m-instruct"),
            config={**_DESIGN, "vision_config": {"image_size": 224}},
            processor=_NANO_PROCESSOR,
        ),
        data=nano(data_root=data_root, quick=quick).data,
        stages=(
            stage("align", ((VISION, None), (LANGUAGE, None), (ALL, 1e-3)), {"captions": 1.0}, 40 if quick else 300),
            stage("warm-up", ((VISION, None), (LANGUAGE, 1e-4), (ALL, 5e-4)), {"warmup": 1.0, "captions": 0.1}, 300 if quick else 2000),
            stage(
                "fine-tune",
                ((VISION, None), (LANGUAGE, 1e-4), (ALL, 3e-4)),
                {"train": 1.0, "warmup": 0.3},
                800 if quick else 6000,
                validations=4 if quick else 6,
            ),
        ),
        answer_style="steps",
        seed=seed,
    )


def smollm2_135m_lora(**options: Any) -> Run:
    """Return the run of ``smollm2-135m`` with a frozen language model and low-rank adapters on it, which are merged after every stage."""
    run = smollm2_135m(**options)
    adapters = ((ADAPTERS, 3e-4), (LANGUAGE, None))
    stages = tuple(
        dataclasses.replace(
            stage, rates=tuple(pair for rate in stage.rates for pair in (adapters if rate[0] == LANGUAGE and rate[1] else (rate,)))
        )
        for stage in run.stages
    )
    model = dataclasses.replace(run.model, lora={"r": 16, "lora_alpha": 32})
    out = options.get("out") or run.out.with_name(run.out.name.replace("smollm2-135m", "smollm2-135m-lora"))
    return dataclasses.replace(run, name="smollm2-135m-lora", out=out, model=model, stages=stages)


RECIPES: dict[str, Callable[..., Run]] = {
    "nano": nano,
    "nano-published": nano_published,
    "nano-blind": nano_blind,
    "nano-plain": nano_plain,
    "nano-abroad": nano_abroad,
    "paper": paper,
    "full": full,
    "smollm2-135m": smollm2_135m,
    "smollm2-135m-lora": smollm2_135m_lora,
}
