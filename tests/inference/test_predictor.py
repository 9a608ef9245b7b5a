"""Laws of the Predictor, on a tiny model with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import smolrgpt
from smolrgpt.data.collate import Collator
from smolrgpt.inference.answer import Answer, make_answer, readable_prefix
from smolrgpt.inference.checkpoints import bundled_checkpoint, portable_checkpoint_name, resolve_checkpoint
from smolrgpt.inference.generation import TYPICAL_ANSWER_TOKENS, AnswerGenerator, Generated
from smolrgpt.inference.inputs import Question
from smolrgpt.inference.predictor import Predictor
from smolrgpt.schema import Camera, DataError, DepthMap, Region, Sample
from smolrgpt.schema.inputs_read import InputsRead
from smolrgpt.tasks import task_named
from smolrgpt.tasks.mentions import read_mentions

SIZE = (64, 48)  # width, height
BOXES = [(2, 3, 20, 30), (30, 5, 60, 40), (5, 31, 50, 47)]


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint: Path) -> Predictor:
    predictor = Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32, device="cpu")
    predictor.max_new_tokens = 12
    return predictor


def random_image(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def depth_map(seed: int, size: tuple[int, int] = SIZE) -> DepthMap:
    return DepthMap(np.random.default_rng(seed).uniform(1, 9, (size[1], size[0])).astype(np.float32), "metric")


def region(box: tuple[int, int, int, int]) -> Region:
    return Region.from_box(box, SIZE[1], SIZE[0])


def samples(num_images: int = 3, num_questions: int = 3) -> list[Sample]:
    """Questions of different lengths and region counts; images interleaved."""
    return [
        Sample(
            id=f"{i}-{q}",
            image=random_image(i),
            depth=depth_map(i),
            question="Which of " + "<mask> " * (q + 1) + "is far away from here?" * (1 + (q + i) % 2),
            regions=[region(box) for box in BOXES[: q + 1]],
            image_key=f"image {i}",
        )
        for q in range(num_questions)
        for i in range(num_images)
    ]


def texts(answers: list[Answer]) -> list[str]:
    return [answer.answer for answer in answers]


# ------------------------------------------------------------------------------------------------------------------ same answers
def test_grouped_batches_answer_as_one_by_one(predictor: Predictor) -> None:
    rows = samples()
    together = texts(predictor.predict_samples(rows, batch_size=4))
    assert together == [texts(predictor.predict_samples([row], batch_size=1))[0] for row in rows]
    assert len(set(together)) > 1, "a model that answers everything alike proves nothing"


def test_ask_answers_as_predict_samples(predictor: Predictor) -> None:
    rows = samples(num_images=1)
    for row, expected in zip(rows, predictor.predict_samples(rows), strict=True):
        found = predictor.ask(row.image, row.question, row.depth, row.regions)
        assert (found.answer, found.normalized_answer, found.category) == (expected.answer, expected.normalized_answer, expected.category)


def test_an_image_is_encoded_once(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    predictor.image_cache.clear()
    encode = predictor.model.encode_images
    monkeypatch.setattr(predictor.model, "encode_images", lambda *args, **kwargs: calls.append(1) or encode(*args, **kwargs))
    first = predictor.ask_many(random_image(0), ["How far is <region 0>?", "How many in <region 1>?"], depth_map(0), BOXES[:2])
    again = predictor.ask(random_image(0), "How far is <region 0>?", depth_map(0), BOXES)  # equal content, new objects, one more region
    assert (len(calls), again.answer) == (1, first[0].answer)
    predictor.ask(random_image(0), "How far is <region 0>?", None, BOXES)
    predictor.ask(random_image(1), "How far is <region 0>?", None, BOXES)
    assert len(calls) == 3, "another depth map or image must be encoded"
    predictor.ask(random_image(0), "How far is <region 1>?", depth_map(0), BOXES)
    assert len(calls) == 3, "and an earlier one is still known"


def test_cached_images_stay_within_their_budget(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used images go first; answers do not depend on what is cached, and the last image always is."""
    predictor.image_cache.clear()
    first = [predictor.ask(random_image(i), "How far is <region 0>?", depth_map(i), BOXES[:1]).answer for i in range(3)]
    one = next(iter(predictor.image_cache)).nbytes
    assert len(predictor.image_cache) == 3 and one > 3 * SIZE[0] * SIZE[1]
    monkeypatch.setattr(predictor.image_cache, "max_bytes", 2 * one)
    again = [predictor.ask(random_image(i), "How far is <region 0>?", depth_map(i), BOXES[:1]).answer for i in (1, 0, 2)]
    assert again == [first[1], first[0], first[2]] and len(predictor.image_cache) == 2
    monkeypatch.setattr(predictor.image_cache, "max_bytes", 0)
    assert predictor.ask(random_image(0), "How far is <region 0>?", depth_map(0), BOXES[:1]).answer == first[0]
    assert [len(image.region_features) for image in predictor.image_cache] == [1]


def test_batches_keep_within_their_memory_and_answer_alike(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, sizes = samples(), []
    batches = AnswerGenerator.batches
    monkeypatch.setattr(AnswerGenerator, "batches", lambda *given: (sizes.append(len(rows)) or rows for rows in batches(*given)))
    together = predictor.predict_samples(rows)
    assert sizes == [len(rows)]
    text = predictor.model.config.text_config
    token_bytes = 2 * text.num_hidden_layers * text.hidden_size * 4
    longest = max(len(predictor.processor.encode_text(row.question, len(row.regions))["input_ids"]) for row in rows)
    monkeypatch.setattr("smolrgpt.inference.generation.CPU_MEMORY_BUDGET", 4 * token_bytes * (longest + TYPICAL_ANSWER_TOKENS))
    sizes.clear()
    apart = predictor.predict_samples(rows)
    assert sizes[0] == 4 and max(sizes) < len(rows) == sum(sizes)
    assert [answer.answer for answer in apart] == [answer.answer for answer in together]
    monkeypatch.setattr("smolrgpt.inference.generation.CPU_MEMORY_BUDGET", 1)
    sizes.clear()
    predictor.predict_samples(rows)
    assert sizes == [1] * len(rows), "one at a time always goes"


def test_the_order_of_mention_decides(predictor: Predictor) -> None:
    swapped = predictor.ask(random_image(0), "Is <region 1> left of <region 0>?", depth_map(0), BOXES[:2])
    plain = predictor.ask(random_image(0), "Is <mask> left of <mask>?", depth_map(0), [BOXES[1], BOXES[0]])
    assert swapped.normalized_answer == plain.normalized_answer


def test_every_form_of_region_means_the_same(predictor: Predictor, tmp_path: Path) -> None:
    mask = np.zeros((SIZE[1], SIZE[0]), dtype=bool)
    mask[3:30, 2:20] = True
    Image.fromarray(mask).save(tmp_path / "mask.png")
    rle = {"size": list(Region.from_mask(mask).size), "counts": Region.from_mask(mask).counts}
    forms = [BOXES[0], np.array(BOXES[0]), mask, str(tmp_path / "mask.png"), rle, Region.from_mask(mask)]
    assert len({predictor.ask(random_image(0), "How far is <region 0>?", depth_map(0), [form]).answer for form in forms}) == 1


def test_questions_without_regions(predictor: Predictor) -> None:
    assert isinstance(predictor.ask(random_image(0), "Describe this.").answer, str)
    rows = predictor.ask_many(random_image(0), ["Describe this.", "How many in <region 0>?"], regions=BOXES[:1])
    assert [row.category for row in rows] == ["other", "count"]
    assert predictor.ask_many(random_image(0), []) == []


# ------------------------------------------------------------------------------------------------------------- region indices of the caller
def answered(text: str, category: str, indices: list[int], field: str | None = None) -> Answer:
    """The answer to a question of this kind, for which the model generated ``text``."""
    return make_answer(Question("?", task_named(category), [], [], indices), Generated(text, 1.0, field), InputsRead(), 0.0)


def test_answers_use_the_region_indices_of_the_caller() -> None:
    question, indices = read_mentions("Which of <region 4>, <Region 2> and <region 0> is closest?", 5)
    assert (question, indices) == ("Which of <mask>, <mask> and <mask> is closest?", [4, 2, 0])
    found = answered("The pallet [Region 1] is the closest to the shelf [Region 0].", "mcq", indices)
    assert (found.answer, found.normalized_answer) == ("The pallet [Region 2] is the closest to the shelf [Region 4].", "2")
    field = answered("[Region 1][Region 2] right[Region 1]: 1", "mcq", indices, "1")
    assert (field.answer, field.normalized_answer) == ("[Region 2][Region 0] right[Region 2]: 2", "2")
    alone = answered("1", "mcq", indices)
    assert (alone.answer, alone.normalized_answer) == ("2", "2")
    count = answered("2", "count", [4, 3, 1])
    assert (count.answer, count.normalized_answer) == ("2", 2), "a count is no region index"


def test_a_number_that_names_a_region_is_the_callers_where_the_kind_is_unknown() -> None:
    found = answered("[Region 0][Region 1] nearest pallet[Region 1]: 1", "other", [4, 7], "1")
    assert (found.answer, found.normalized_answer) == ("[Region 4][Region 7] nearest pallet[Region 7]: 7", None)
    assert answered("[Region 0][Region 1] 4.7 m: 1", "other", [4, 7], "1").answer == "[Region 4][Region 7] 4.7 m: 1", "a length, or a count"


@pytest.mark.parametrize(
    ("question", "num_regions", "message"),
    [
        ("How far is <region 7>?", 2, "available: <region 0>, <region 1>"),
        ("How far is <region 0>?", 0, "no region was given"),
        ("How far is <mask>?", 2, "1 <mask> but 2 regions"),
        ("How far is <mask> from <mask>?", 0, "2 <mask> but 0 regions"),
        ("How far is <mask> from <region 0>?", 1, "mixes"),
        ("How far is <region a>?", 1, "cannot read '<region a>'"),
    ],
)
def test_mentions_that_do_not_fit_are_errors(question: str, num_regions: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_mentions(question, num_regions)


def test_unmentioned_regions_are_an_error(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="no question mentions one; write regions as <region NUMBER>"):
        predictor.ask(random_image(0), "How far is the pallet?", regions=BOXES[:1])


# ---------------------------------------------------------------------------------------------------------------- unfitting input
def test_depth_of_another_scale_is_fine_of_another_shape_is_not(predictor: Predictor) -> None:
    for size in ((32, 24), (640, 480), (33, 24)):
        answer = predictor.ask(random_image(0), "How far is <region 0>?", depth_map(0, size), BOXES[:1])
        assert 0 <= answer.confidence <= 1, size
    with pytest.raises(DataError, match="depth map is 48x48, the image 64x48"):
        predictor.ask(random_image(0), "How far is <region 0>?", depth_map(0, (48, 48)), BOXES[:1])


def test_regions_that_do_not_fit_are_errors(predictor: Predictor) -> None:
    empty = Region.from_rle({"size": [48, 64], "counts": [48 * 64]})
    with pytest.raises(DataError, match="region 1: its mask is empty"):
        predictor.ask(random_image(0), "How far is <region 0>?", regions=[BOXES[0], empty])
    with pytest.raises(DataError, match="region 0: its mask is 48x48"):
        predictor.ask(random_image(0), "How far is <region 0>?", regions=[np.ones((48, 48), dtype=bool)])
    with pytest.raises(DataError, match="outside the image"):
        predictor.ask(random_image(0), "How far is <region 0>?", regions=[(70, 0, 90, 10)])


@pytest.mark.parametrize("camera", [(1, 2, 3), ("a", 1, 2, 3), (0, 1, 2, 3), {"fx": 1}])
def test_bad_cameras_are_errors(predictor: Predictor, camera: object) -> None:
    with pytest.raises(DataError, match="camera"):
        predictor.ask(random_image(0), "How far is <region 0>?", depth_map(0), BOXES[:1], camera)


def test_unreadable_images_are_errors(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG not really")
    with pytest.raises(DataError, match=r"broken.png"):
        predictor.ask(path, "Describe this.")
    with pytest.raises(DataError, match=r"broken.png"):
        predictor.predict_samples([Sample("a", path, "Describe this.")])


# ------------------------------------------------------------------------------------------------------------------- checkpoints
def test_names_that_are_no_checkpoint_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no bundled checkpoint 'giant'"):
        bundled_checkpoint("giant")
    with pytest.raises(ValueError, match="no model 'giant'"):
        resolve_checkpoint("giant")
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        resolve_checkpoint(tmp_path)
    assert resolve_checkpoint("owner/name") == "owner/name"


def test_other_processes_find_the_same_checkpoint(tiny_checkpoint, monkeypatch):
    monkeypatch.chdir(tiny_checkpoint.parent)
    assert portable_checkpoint_name(tiny_checkpoint.name) == str(tiny_checkpoint.resolve())
    assert [portable_checkpoint_name(name) for name in ("nano", "owner/name")] == ["nano", "owner/name"]
    with pytest.raises(ValueError, match="giant"):
        portable_checkpoint_name("giant")


def test_the_package_exports_lazily() -> None:
    assert smolrgpt.Predictor is Predictor and smolrgpt.Sample is Sample
    with pytest.raises(AttributeError, match="offers"):
        _ = smolrgpt.Missing


def test_a_blind_model_never_opens_the_image(predictor: Predictor, tmp_path: Path) -> None:
    eyes = predictor.processor
    blind = Predictor(predictor.model, type(eyes)(eyes.image_processor, eyes.tokenizer, region_tokens=(), num_image_tokens=0), 12)
    row = Sample("a", tmp_path / "nowhere.png", "How many are in <mask>?", [region(BOXES[0])])
    assert blind.predict_samples([row])[0].answer == blind.ask(random_image(0), row.question, None, row.regions).answer


# -------------------------------------------------------------------------------------------------------------- several inquiries
def inquiries(predictor: Predictor):
    """Three images, the first of them asked about twice, interleaved."""
    first = ["How far is <region 0> from <region 1>?", "Which of <region 1> <region 2> is left?"]
    asked = [(0, first, BOXES), (1, ["Is <region 0> far away from here?"], BOXES[:1]), (0, ["How many are in <region 2>?"], BOXES)]
    return [predictor.prepare(random_image(i), questions, depth_map(i), boxes) for i, questions, boxes in asked]


def test_inquiries_answered_together_get_the_answers_each_gets_alone(predictor):
    together = predictor.answer(inquiries(predictor))
    fresh = Predictor(predictor.model, predictor.processor, predictor.max_new_tokens)
    alone = [fresh.answer([inquiry])[0] for inquiry in inquiries(fresh)]
    assert [texts(answers) for answers in together] == [texts(answers) for answers in alone]
    assert [len(answers) for answers in together] == [2, 1, 1]


def test_an_answer_grows_to_what_it_ends_as(predictor):
    texts_so_far: dict[tuple[int, int], list[str]] = {}
    answers = predictor.answer(inquiries(predictor), on_text=lambda i, j, text: texts_so_far.setdefault((i, j), []).append(text))
    for (i, j), grown in texts_so_far.items():
        whole = answers[i][j].answer
        assert all(whole.startswith(text) for text in grown), (grown, whole)
        assert len(grown) >= 2
    assert set(texts_so_far) == {(0, 0), (0, 1), (1, 0), (2, 0)}


def test_half_a_region_name_is_not_shown():
    def start(text: str, category: str = "distance", indices: tuple[int, ...] = ()) -> str:
        return readable_prefix(Question("?", task_named(category), [], [], indices), text)

    assert start("It is [Region 0] and [Reg", indices=(4,)) == "It is [Region 4] and "
    assert start("It is [Region 0]", indices=(4,)) == "It is [Region 4]"
    assert start("2") == "2" and start("[Region 0][Region 1]: 3.") == "[Region 0][Region 1]: 3."
    assert start("right[Region 1]: 1", "mcq", (4, 7)) == "right[Region 7]", "the number may have another digit, and is the model's own"
    assert start("pal\ufffd") == "pal"


@pytest.mark.parametrize(
    ("question", "message"),
    [("", "empty"), (" \n", "empty"), ("a" * 20_000, "characters"), ("how far " * 400, "tokens")],
    ids=["nothing", "white space", "characters", "tokens"],
)
def test_questions_no_model_reads_are_refused(predictor, question: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.ask(random_image(0), question)


def test_samples_too_long_for_the_model_are_refused(predictor) -> None:
    long = Sample(id="long", image=random_image(0), question="how far " * 400)
    with pytest.raises(DataError, match="tokens"):
        predictor.predict_samples([long])


def test_every_entrance_hands_on_how_inputs_were_read(predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "doubts", lambda self: ["the camera is odd"])
    monkeypatch.setattr(Region, "doubts", lambda self: ["its mask is odd"] if self == region(BOXES[1]) else [])
    camera = Camera(50, 50, 32, 24, *SIZE)
    asked = predictor.ask_many(random_image(0), ["Which is left?"] * 2, depth_map(0), [], camera)
    row = Sample("a", random_image(0), "Is <mask> left of <mask>?", [region(box) for box in BOXES[:2]], depth_map(0), camera)
    (predicted,) = predictor.predict_samples([row])
    assert all(answer.inputs.warnings == ("the camera is odd",) and answer.inputs.camera == camera for answer in asked)
    assert predicted.inputs.warnings == ("the camera is odd", "region 1: its mask is odd")
    assert predicted.inputs.depth == asked[0].inputs.depth and predicted.inputs.depth.kind == "metric"
    assert "Warning: the camera is odd" in asked[0]._repr_html_()
    collator = Collator(predictor.processor)
    for _ in range(2):
        collator([[row]])
    assert collator.doubts.counts == {"the camera is odd": 1, "region N: its mask is odd": 1}


def test_notebooks_see_the_image_and_programs_see_a_plain_answer(predictor):
    answer = predictor(random_image(0), "Is <region 0> left of <region 1>?", regions=BOXES[:2])
    shown = answer._repr_html_()
    assert "data:image/jpeg" in shown and "<region" not in shown
    assert set(dataclasses.asdict(answer)) >= {"answer", "normalized_answer", "category", "seconds", "confidence", "inputs"}
    assert "<b>x</b>" not in Answer("<b>x</b>", None, "other", 0.0, 1.0)._repr_html_()
    assert len(predictor(random_image(0), ["What is this?"] * 2)) == 2 and "region features: rgb, depth, geo" in repr(predictor)
