"""The published curriculum by its own command, on folders in the published layouts and tiny backbones: all but real data and size."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM, SiglipConfig, SiglipModel

from smolrgpt.cli import main as cli
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.data.worlds import write_dataset
from smolrgpt.model import SmolRGPTForConditionalGeneration, SmolRGPTImageProcessor
from smolrgpt.train import build
from smolrgpt.train.callbacks import CURVE_FILE, read_curve
from smolrgpt.train.tokenizer import train_tokenizer

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(texts)]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """DATA_ROOT as docs/how-to/train-on-real-data.md describes it: three scenes, as warehouse, captions and OSD conversations."""
    root = tmp_path_factory.mktemp("data")
    for split, scenes, seed in (("train", 3, 5), ("val", 2, 6)):
        write_dataset(root / "warehouse", split, scenes, seed, "known", questions_per_scene=8, size=(96, 54), workers=1, progress=False)
        shutil.rmtree(root / "warehouse" / split / "depths_metric")
        (root / "warehouse" / split / "cameras.json").unlink()
    captions, conversations = [], []
    for folder in ("llava_cc3m/images", "osd/images", "osd/depths"):
        (root / folder).mkdir(parents=True)
    for sample in {sample.image_key: sample for sample in read_warehouse(root / "warehouse", "train")}.values():
        name = sample.image.stem
        for data_set in ("llava_cc3m", "osd"):
            Image.open(sample.image).convert("RGB").save(root / data_set / "images" / f"{name}.jpg")
        shutil.copy(sample.depth.source, root / "osd" / "depths" / f"{name}.png")
        turn = turns("Give a short description of the image.\n<image>", "a warehouse with pallets on its floor .")
        captions.append({"id": name, "image": f"{name}.jpg", "conversations": turn})
        asked = turns(
            "<image>\nHow wide is <mask> <depth>?", "3.2 feet.", "Is <mask> <depth> left of <mask> <depth>?", "Yes, Region [0] is."
        )
        rle = [sample.regions[i].to_rle() for i in (0, 0, 1)]
        conversations.append({"filename": name, "conversations": asked, "rle": rle, "bbox": [[0, 0, 9, 9]] * 3})
    (root / "llava_cc3m" / "chat.json").write_text(json.dumps(captions))
    (root / "osd" / "result_10_depth_convs.json").write_text(json.dumps(conversations))
    return root


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("backbones")
    torch.manual_seed(0)
    words = train_tokenizer(["Which pallet is left of the other? It is 3.2 meters."], 300)
    SiglipModel(
        SiglipConfig(vision_config={**SMALL, "image_size": 64, "patch_size": 8}, text_config={**SMALL, "vocab_size": 50})
    ).save_pretrained(folder / "vision")
    SmolRGPTImageProcessor(image_mean=[0.5] * 3, image_std=0.5).save_pretrained(folder / "vision")
    text = LlamaConfig(vocab_size=len(words), num_key_value_heads=1, tie_word_embeddings=True, **SMALL)
    LlamaForCausalLM(text).save_pretrained(folder / "text")
    words.save_pretrained(folder / "text")
    return [str(folder / "vision"), str(folder / "text")]


def train(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", *map(str, arguments)])
    assert not stop.value.code


@pytest.mark.parametrize("recipe", ["paper", "full"])
@pytest.mark.slow
def test_one_command_prepares_and_runs_all_three_stages(recipe, root, backbones, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "best_dtype", lambda device: torch.float32)
    short = {"max_steps": 2, "images_per_step": 2, "eval_every": None, "save_every": None, "early_stopping_patience": None}
    settings = {f"stages.{stage}.{name}": value for stage in range(3) for name, value in short.items()}
    settings |= {"stages.2.eval_every": 2, "stages.2.save_every": 2, "model.backbones": backbones, "validation_questions": 8}
    overrides = [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    train(recipe, "--data-root", root, "--out", tmp_path / "run", *overrides)

    prepared = sorted(str(path.parent.relative_to(root / "prepared")) for path in root.glob("prepared/*/*/prepared.json"))
    assert prepared == ["llava_cc3m/train", "osd/train", "warehouse/train", "warehouse/val"]
    models = [SmolRGPTForConditionalGeneration.from_pretrained(path) for path in sorted((tmp_path / "run").glob("*-*/final"))]
    changed = [moved(*pair) for pair in pairwise(models)]
    if recipe == "paper":
        assert not {name for name in changed[0] if "refiner" not in name and "connector" not in name}
    assert any("language_model" in name for name in changed[1]) and not any("vision_tower" in name for name in changed[1])
    rows = read_curve(tmp_path / "run" / CURVE_FILE)
    assert [row["stage"] for row in rows if "S1" in row] == ["fine-tune"]
    assert {row["stage"] for row in rows if "depth_permuted" in row.get("health", {})} >= {"warm-up", "fine-tune"}


def moved(before: torch.nn.Module, after: torch.nn.Module) -> set[str]:
    weights = dict(before.named_parameters())
    return {name for name, value in after.named_parameters() if not torch.equal(value, weights[name])}
