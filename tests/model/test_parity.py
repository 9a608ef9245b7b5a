"""The released program is the judge: same weights, same inputs, same numbers as in its reference tensors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedTokenizerFast

from smolrgpt.model import SmolRGPTForConditionalGeneration
from smolrgpt.model.convert_released import convert, converted_names, load_released

REFERENCE = Path(__file__).parents[2] / "../shared/reference/original_tiny"
pytestmark = [pytest.mark.realdata, pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference tensors are not there")]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def model() -> SmolRGPTForConditionalGeneration:
    return load_released(REFERENCE / "checkpoint")


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return load_file(REFERENCE / "outputs.safetensors")


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    inputs = load_file(REFERENCE / "inputs.safetensors")
    # the released program resizes masks bilinearly to the refiner's grid
    masks = torch.cat([inputs["masks_0"], inputs["masks_1"]]).float()[:, None]
    masks = torch.nn.functional.interpolate(masks, size=(64, 64), mode="bilinear", align_corners=False)[:, 0]
    return {
        "input_ids": inputs["input_ids"],
        "attention_mask": inputs["attention_mask"],
        "pixel_values": inputs["pixel_values"],
        "depth_values": inputs["depth_values"],
        "region_masks": masks,
        "region_image_index": torch.tensor([0, 0, 0, 1, 1]),
        "image_index": torch.tensor([0, 1]),
        "region_index": torch.tensor([[0, 1, 2], [3, 4, -1]]),
    }


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    """Ours are not shifted: the target of position t stands at t + 1."""
    shifted = load_file(REFERENCE / "inputs.safetensors")["labels_shifted"]
    assert (shifted[:, -1] == -100).all()
    return torch.cat([torch.full((2, 1), -100), shifted[:, :-1]], dim=1)


@torch.no_grad()
def test_features_match(model, batch, expected) -> None:
    for name, key in (("rgb", "pixel_values"), ("depth", "depth_values")):
        torch.testing.assert_close(model.model.encode_patches(batch[key]), expected[f"vision_features_{name}"], **CLOSE)
    keys = ("pixel_values", "depth_values", "region_masks", "region_image_index")
    features = model.encode(**{key: batch[key] for key in keys})
    torch.testing.assert_close(features.image_embeds, expected["image_tokens"], **CLOSE)
    for kind in ("rgb", "depth"):
        torch.testing.assert_close(features.region_maps[kind], expected[f"refined_{kind}"], **CLOSE)
        torch.testing.assert_close(features.region_features.tokens[kind], expected[f"region_{kind}_tokens"], **CLOSE)


@torch.no_grad()
def test_logits_and_loss_match(model, batch, labels, expected) -> None:
    real = batch["attention_mask"] == 1
    torch.testing.assert_close(model(**batch).logits[real], expected["logits"][real], **CLOSE)
    torch.testing.assert_close(model(**batch, labels=labels).loss.view(1), expected["loss"], **CLOSE)


def test_greedy_answers_match(model, batch, expected) -> None:
    """With random weights the released program also says placeholders, which ours suppresses unless told otherwise."""
    for sample in range(2):
        one = {**batch, "input_ids": expected[f"prompt_{sample}"]}
        one["attention_mask"] = torch.ones_like(one["input_ids"])
        one["image_index"] = batch["image_index"][sample : sample + 1]
        one["region_index"] = batch["region_index"][sample : sample + 1]
        prompt = one["input_ids"].shape[1]
        answer = model.generate(**one, max_new_tokens=12, do_sample=False, suppress_tokens=None)[0, prompt:]
        wanted = expected[f"generated_{sample}"][0]
        assert answer.tolist() == wanted[: len(answer)].tolist()
        assert (wanted[len(answer) :] == 2).all()  # the rest is the released program's padding


def test_gradient_norms_match(model, batch, labels) -> None:
    norms = json.loads((REFERENCE / "gradient_norms_all_trainable.json").read_text())
    model.zero_grad()
    model(**batch, labels=labels).loss.backward()
    parameters = dict(model.named_parameters())
    covered = set()
    for released, norm in norms.items():
        names = converted_names(released)
        covered.update(names)
        ours = torch.stack([parameters[name].grad.norm() for name in names]).norm().item()
        assert ours == pytest.approx(norm, rel=0.01, abs=1e-6), released
    assert covered == set(parameters)
    model.zero_grad()


def test_stages_train_the_same_modules(model) -> None:
    recipes = pytest.importorskip("smolrgpt.train.recipes")
    from smolrgpt.train.optim import apply_rates

    wanted = json.loads((REFERENCE / "trainable_modules_per_stage.json").read_text())
    released = {
        our: name for name in json.loads((REFERENCE / "gradient_norms_all_trainable.json").read_text()) for our in converted_names(name)
    }
    stages = recipes.paper().stages
    assert len(stages) == len(wanted)
    try:
        for stage, modules in zip(stages, wanted.values(), strict=True):
            trained = {released[name].split(".")[0] for name in apply_rates(model, stage.rates)}
            assert trained == set(modules), stage.name
    finally:
        model.requires_grad_(True)


def test_converted_folder_is_complete(tmp_path: Path, model, batch) -> None:
    words = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, **{f"w{i}": i for i in range(3, 125)}}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="w3")))
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"})
    convert(REFERENCE / "checkpoint", tmp_path / "out", tokenizer)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.image_token_id, processor.region_token_ids) == (125, {"rgb": 126, "depth": 127})
    assert (processor.image_processor.grid_size, processor.image_processor.mask_resize) == (64, "bilinear")
    with pytest.raises(ValueError, match=r"has no config.json"):
        convert(tmp_path, tmp_path / "again", tokenizer)


@pytest.mark.parametrize(
    ("change", "message"), [("extra", "unknown decoder.surprise"), ("drop", "missing model.depth_connector.proj.weight")]
)
def test_every_tensor_is_accounted_for(tmp_path: Path, change: str, message: str) -> None:
    (tmp_path / "config.json").write_text((REFERENCE / "checkpoint/config.json").read_text())
    state = load_file(REFERENCE / "checkpoint/model.safetensors")
    if change == "extra":
        state["decoder.surprise"] = torch.zeros(1)
    else:
        del state["MP_depth.proj.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        load_released(tmp_path)
