"""Shared by all tests: where the real sample files lie, when they are there at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from smolrgpt.data.worlds import Scene
    from smolrgpt.tasks.question import Question

# Set before torch is imported: tiny models are fastest on one thread, which also lets test processes share the cores; no test goes online.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


@pytest.fixture
def shared_path() -> Callable[[str], Path]:
    """``shared_path("samples/x")``: that path beside the repository; the test is skipped where it is absent."""

    def find(relative: str) -> Path:
        path = (SHARED / relative).resolve()
        if not path.exists():
            pytest.skip(f"real data {relative} is not here")
        return path

    return find


@pytest.fixture
def ray_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the test while no other test process uses Ray: two clusters that start together disturb one another."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock"):
        yield


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A saved tiny model: 32-pixel input, 4 image tokens, all three region tokens."""
    import torch

    from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration, SmolRGPTImageProcessor, SmolRGPTProcessor
    from smolrgpt.train.tokenizer import train_tokenizer

    torch.manual_seed(0)
    tokenizer = train_tokenizer(["How far is the pallet [Region 0] from <mask>? It is 3.2 meters."] * 3, 320)
    ids = {
        name: tokenizer.convert_tokens_to_ids(token)
        for name, token in (("rgb", "<mask_rgb>"), ("depth", "<mask_depth>"), ("geo", "<mask_geo>"))
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SmolRGPTConfig(
        vision_config={**vision, "image_size": 32, "patch_size": 8, "vision_use_head": False},
        text_config={
            **text,
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
            "tie_word_embeddings": True,
            "max_position_embeddings": 512,
        },
        region_tokens=["rgb", "depth", "geo"],
        refiner_stages=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        region_token_ids=ids,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = SmolRGPTForConditionalGeneration(config)
    with torch.no_grad():  # fresh weights answer everything alike; large embeddings make the prompt matter
        for parameter in model.parameters():
            parameter.mul_(3.0)
    image_processor = SmolRGPTImageProcessor(size=32, grid_size=8)
    processor = SmolRGPTProcessor(image_processor, tokenizer, ("rgb", "depth", "geo"), region_labels=True, num_image_tokens=4)
    folder = tmp_path_factory.mktemp("tiny")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``command(*arguments) -> (exit code, stdout, stderr)``: the ``smolrgpt`` command in this process."""
    from smolrgpt.cli import main as cli

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """45 drawn scenes, as many of each layout."""
    from smolrgpt.data.worlds import LAYOUTS, generate_scene

    names = list(LAYOUTS)
    return [generate_scene((11, k), names[k % len(names)]) for k in range(45)]


@pytest.fixture(scope="session")
def asked(scenes: list[Scene]) -> list[tuple[Scene, list[Question]]]:
    """Scenes with their official questions."""
    from smolrgpt.data.worlds import random_generator
    from smolrgpt.data.worlds.question_sets import scene_questions

    return [(scene, scene_questions(scene.graph, random_generator(12, k), 24)) for k, scene in enumerate(scenes)]


@pytest.fixture(scope="session")
def is_right() -> Callable[[object, object], bool]:
    """``is_right(truth, given)``: equal, or a length within 10 %."""
    return lambda truth, given: abs(given - truth) <= 0.1 * truth + 1e-9 if isinstance(truth, float) else truth == given
