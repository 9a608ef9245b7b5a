"""Routers: what a label means does not depend on region numbers; training learns, resumes and keeps what is done; garbage is a miss."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import LongformerConfig, LongformerForSequenceClassification, TrainerCallback, TrainerControl

from experiments import train_router as router
from experiments.train_router import RouterSettings, answer_label, labelled, load_rows, train_routers
from smolrgpt.cli import main as cli
from smolrgpt.evaluation.extractors.classifier import (
    HEADS,
    PUBLISHED_GUESSES,
    UNREADABLE,
    ClassifierExtractor,
    answer_text,
    label_to_answer,
    renumber_by_mention,
)
from smolrgpt.schema import DataError
from smolrgpt.tasks.region_text import region_tag, replace_regions

pytestmark = pytest.mark.slow

NUMBERS = ("one", "two", "three")
QUESTIONS = {
    "left_right": "Is the {} <mask> to the left or right of the {} <mask>?",
    "count": "How many pallets are in the {} buffer <mask> next to the {}?",
    "mcq": "Which {} among <mask> <mask> <mask> suits the {} <mask>?",
    "distance": "How far is the {} <mask> from the {} <mask>?",
}
NOUNS = ("pallet", "buffer", "transporter", "shelf", "leftmost pallet", "nearest shelf")


VIEWS = ("", "From this viewpoint, ", "As seen here, ", "From the image's perspective, ")


def _answers(category: str, first: int, second: int, k: int) -> tuple[str, Any]:
    sides, noun = ("left", "right"), NOUNS[k // 2 % 6]
    a, b = f"the {noun} [Region {first}]", f"the pallet [Region {second}]"
    answer, value = {
        "left_right": (f"{a} is to the {sides[k % 2]} of {b}.", sides[k % 2 if first < second else 1 - k % 2]),
        "count": (f"{a} holds {NUMBERS[k % 3]} pallets.", k % 3 + 1),
        "mcq": [(f"{a} is closest to {b}.", str(first)), (f"{a} is empty. The closest pallet is {b}.", str(second))][k % 2],
        "distance": (f"{a} and {b} are {1 + k * 0.37:.2f} meters apart.", round(1 + k * 0.37, 2)),
    }[category]
    return VIEWS[k // 12 % 4] + answer, value


def _rows(regions: range = range(8)) -> list[dict[str, Any]]:
    """Official-looking rows over every pair of regions."""
    rows = []
    for k, (first, second) in enumerate(itertools.permutations(regions, 2)):
        for category, question in QUESTIONS.items():
            answer, value = _answers(category, first, second, k)
            nouns = NOUNS[k % 6], NOUNS[k // 6 % 6]
            row = {"id": f"{category}-{k}", "question": question.format(*nouns), "answer": answer, "category": category}
            rows.append({**row, "normalized_answer": value})
    return rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("router") / "out"
    return out, train_routers(_rows(), out, RouterSettings("tiny", max_steps=90, batch_size=16, max_tokens=64, held_out=0.2))


# ------------------------------------------------------------------------------------------------------------------------ labels
@given(st.lists(st.sampled_from(["[Region {}]", "<region {}>", "region {}", "is left of", "two."]), max_size=8), st.permutations(range(20)))
def test_what_the_router_reads_does_not_depend_on_region_numbers(parts: list[str], numbers: list[int]) -> None:
    text = " ".join(part.format(i % 3) for i, part in enumerate(parts))
    renumbered = replace_regions(text, lambda index: region_tag(numbers[index]))
    (read, order), (read_again, order_again) = renumber_by_mention(text), renumber_by_mention(renumbered)
    assert read == read_again
    assert [numbers[number] for number in order] == order_again


def test_a_label_means_the_value_it_was_made_of() -> None:
    for row in _rows():
        _, numbers = answer_text(row["answer"])
        label = answer_label(row["category"], row["normalized_answer"], numbers)
        assert label_to_answer(label, row["question"], row["answer"], numbers) == row["normalized_answer"]


def test_rows_without_a_use_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    good = _rows()[:4]
    bad = [{}, {**good[0], "answer": None}, {**good[1], "category": ["count"]}, {**good[1], "normalized_answer": "many"}]
    examples = labelled([*good, *bad, {**good[2], "normalized_answer": "17"}])
    assert [len(examples[head]) for head in HEADS] == [4, 4]
    assert "skipped 5" in caplog.text


def test_rows_come_from_files_of_the_official_layout(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>\nHow many <mask>?"}, {"from": "gpt", "value": "One pallet in [Region 0]."}]
    rows = [{"id": "a", "conversations": turns, "category": "count", "normalized_answer": 1}, {"id": "b", "conversations": 3}]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    first, second = load_rows(tmp_path / "train.json")
    assert (first["question"].removeprefix("<image>\n"), first["answer"]) == ("How many <mask>?", "One pallet in [Region 0].")
    assert "question" not in second


# ---------------------------------------------------------------------------------------------------------------------- training
def test_training_learns_and_reads_region_numbers_it_never_saw(trained: tuple[Path, dict[str, Any]]) -> None:
    out, metrics = trained
    for head in HEADS:
        assert metrics[head]["accuracy"] > 90, metrics[head]
    assert json.loads((out / "metrics.json").read_text()) == metrics
    rows = _rows(range(21, 25))
    found = ClassifierExtractor(out)(rows)
    right = sum(answer == row["normalized_answer"] for answer, row in zip(found, rows, strict=True))
    assert right >= 0.9 * len(rows)


class _Interrupt(TrainerCallback):
    def on_step_end(self, args: object, state: object, control: TrainerControl, **_: object) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = RouterSettings("tiny", max_steps=4, batch_size=4, max_tokens=32, save_every=2)
    rows = _rows(range(4))
    whole = train_routers(rows, tmp_path / "whole", short)

    class Interrupted(router.Trainer):
        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **options, callbacks=[_Interrupt()])

    with monkeypatch.context() as patch:
        patch.setattr(router, "Trainer", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_routers(rows, tmp_path / "cut", short)
    assert not (tmp_path / "cut/question").exists()
    assert train_routers(rows, tmp_path / "cut", short) == whole
    for head in HEADS:
        one, other = ((tmp_path / name / head / "model.safetensors").read_bytes() for name in ("whole", "cut"))
        assert one == other
    written = (tmp_path / "cut/answer/model.safetensors").stat().st_mtime_ns
    assert train_routers(rows, tmp_path / "cut", short) == whole
    assert (tmp_path / "cut/answer/model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="other settings or rows"):
        train_routers(rows[1:], tmp_path / "cut", short)
    with pytest.raises(ValueError, match="no-resume"):
        train_routers(rows, tmp_path / "cut", short, resume=False)


def test_too_few_rows_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give more rows"):
        train_routers(_rows()[:1], tmp_path, RouterSettings("tiny", max_steps=1))


def test_a_longformer_is_trained_from_its_folder(tmp_path: Path) -> None:
    rows = _rows(range(4))
    tokenizer = router._tiny_tokenizer([row["answer"] for row in rows])
    torch.manual_seed(0)
    config = LongformerConfig(
        attention_window=[8],
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=80,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
    LongformerForSequenceClassification(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    metrics = train_routers(rows, tmp_path / "out", RouterSettings(str(tmp_path / "base"), max_steps=2, batch_size=4, max_tokens=64))
    assert json.loads((tmp_path / "out/answer/config.json").read_text())["model_type"] == "longformer"
    assert metrics["answer"]["num_held_out"] > 0
    answers = ClassifierExtractor(tmp_path / "out", min_probability=0)([*rows[:2], {"question": "x" * 9000, "answer": "y " * 9000}])
    assert len(answers) == 3


# ----------------------------------------------------------------------------------------------------------------------- garbage
texts = st.none() | st.integers() | st.floats() | st.binary() | st.text(st.characters()) | st.text(st.sampled_from("[Region 01]<mask>. "))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(asked=st.lists(st.fixed_dictionaries({}, optional={"question": texts, "answer": texts}), max_size=4))
def test_any_row_gives_an_answer_or_none(trained: tuple[Path, dict[str, Any]], asked: list[dict[str, Any]], reader: Any) -> None:
    answers = reader(asked)
    assert len(answers) == len(asked)
    for row, answer in zip(asked, answers, strict=True):
        assert answer is None or isinstance(answer, str | int | float)
        if not isinstance(row.get("answer"), str) or not row["answer"].strip():
            assert answer is None


@pytest.fixture(scope="module")
def reader(trained: tuple[Path, dict[str, Any]]) -> ClassifierExtractor:
    return ClassifierExtractor(trained[0])


def test_the_published_guesses_are_made_only_on_request(trained: tuple[Path, dict[str, Any]]) -> None:
    empty = [{**row, "answer": ""} for row in _rows()[:4]]
    assert ClassifierExtractor(trained[0])(empty) == [None] * 4
    assert ClassifierExtractor(trained[0], guess=True)(empty) == [PUBLISHED_GUESSES[row["category"]] for row in empty]


def test_an_unsure_router_reads_nothing(trained: tuple[Path, dict[str, Any]]) -> None:
    rows = _rows()[:8]
    assert ClassifierExtractor(trained[0], min_probability=1.01)(rows) == [None] * 8
    assert UNREADABLE not in ClassifierExtractor(trained[0], min_probability=0)(rows)


# ----------------------------------------------------------------------------------------------------------------------- command
def test_the_commands_train_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(_rows(range(4))))
    options = ["--base", "tiny", "--max-steps", "2", "--max-tokens", "32", "--out", str(tmp_path / "router"), "--json"]
    router.main([str(tmp_path / "rows.json"), *options])
    assert set(json.loads(capsys.readouterr().out)) == set(HEADS)
    readers = ["--with", f"classifier:folder={tmp_path / 'router'}", "--with", "rules"]
    cli.app(["extract", str(tmp_path / "rows.json"), *readers, "--out", str(tmp_path / "read.json"), "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["classifier", "rules"]
    assert found["rules"] == {"num_unreadable": 0, "unreadable": []}
