"""Laws of the warehouse reader: what the layout says is what a Sample holds; what cannot be used is counted, never fatal, never silent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from smolrgpt.data.collate import Collator
from smolrgpt.data.io import iter_rows
from smolrgpt.data.loading import SkipLog, group_by_image, load_image, load_sample_depth
from smolrgpt.data.sources import SOURCES
from smolrgpt.data.sources.warehouse import available_splits, iter_warehouse, read_warehouse
from smolrgpt.inference.checkpoints import bundled_checkpoint
from smolrgpt.model import SmolRGPTProcessor
from smolrgpt.schema import Camera, DataError, DepthMap, Region, Sample

H, W = 18, 32
CAMERA = {"fx": 30.0, "fy": 30.0, "cx": 15.5, "cy": 8.5, "width": W, "height": H}
SAMPLES = Path(__file__).parents[2] / "../shared/samples/warehouse"


@pytest.fixture(scope="module")
def processor() -> SmolRGPTProcessor:
    return SmolRGPTProcessor.from_pretrained(bundled_checkpoint("nano"))


def rle(x0: int) -> dict[str, Any]:
    return Region.from_box((x0, 2, x0 + 4, 8), H, W).to_rle()


def row(name: str = "q0", image: str = "000001.png", question: str = "Is <mask> left of <mask>?", **changes: Any) -> dict[str, Any]:
    made = {
        "id": name,
        "image": image,
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": "[Region 0] is left."}],
        "rle": [rle(2), rle(20)],
        "category": "left_right",
        "normalized_answer": "left",
        "freeform_answer": "[Region 0] is left.",
    } | changes
    return {key: value for key, value in made.items() if value != "ABSENT"}


def write(
    root: Path, rows: list[Any], split: str = "train", images: tuple[str, ...] = ("000001", "000002"), metric: tuple[str, ...] = ()
) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "depths", *(["depths_metric"] if metric else [])):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
    for name in images:
        Image.fromarray(rng.integers(0, 255, (H, W, 3), dtype=np.uint8)).save(root / split / "images" / f"{name}.png")
        Image.fromarray(rng.integers(0, 255, (H, W), dtype=np.uint8)).save(root / split / "depths" / f"{name}_depth.png")
    for name in metric:
        Image.fromarray(np.full((H, W), 2500, np.uint16)).save(root / split / "depths_metric" / f"{name}_depth.png")
    (root / f"{split}.json").write_text(json.dumps(rows))
    return root


def test_a_row_becomes_a_sample(tmp_path: Path) -> None:
    write(tmp_path, [row(layout="aisles")])
    (tmp_path / "train" / "cameras.json").write_text(json.dumps({"000001.png": CAMERA}))
    (sample,) = read_warehouse(tmp_path, "train")
    assert (sample.id, sample.question, sample.answer) == ("q0", "Is <mask> left of <mask>?", "[Region 0] is left.")
    assert (sample.normalized_answer, sample.category, sample.metadata) == ("left", "left_right", {"layout": "aisles"})
    assert sample.camera == Camera(**CAMERA)
    assert sample.regions[0].to_mask()[2:8, 2:6].all() and sample.regions[0].to_mask().sum() == 24
    assert load_image(sample).size == (W, H)
    assert load_sample_depth(sample).kind == "relative"
    assert SOURCES["warehouse"] is iter_warehouse


@pytest.mark.parametrize(
    "question", ["<image>\nIs <mask> left of <mask>?", "Is <mask> left of <mask>?\n<image>", "Is <mask> left of <mask>?"]
)
def test_the_image_token_is_optional_and_removed(tmp_path: Path, question: str) -> None:
    (sample,) = read_warehouse(write(tmp_path, [row(question=question)]), "train")
    assert sample.question == "Is <mask> left of <mask>?"


@pytest.mark.parametrize("answer", [0, 3, 0.0, 6.36, "6.36", "2", "right", None])
def test_normalized_answers_keep_their_type(tmp_path: Path, answer: Any) -> None:
    (sample,) = read_warehouse(write(tmp_path, [row(normalized_answer=answer)]), "train")
    assert sample.normalized_answer == answer and type(sample.normalized_answer) is type(answer)


def test_duplicate_masks_stay_in_place(tmp_path: Path) -> None:
    made = row(question="<mask> <mask> <mask>", rle=[rle(9), rle(2), rle(9)])
    (sample,) = read_warehouse(write(tmp_path, [made]), "train")
    assert [region.to_rle() for region in sample.regions] == made["rle"]


def test_test_rows_have_no_answer(tmp_path: Path) -> None:
    bare = {key: value for key, value in row().items() if key in ("id", "image", "rle")}
    bare["conversations"] = [{"from": "human", "value": "<mask> or <mask>?"}]
    (sample,) = read_warehouse(write(tmp_path, [bare], split="test"), "test")
    assert (sample.answer, sample.normalized_answer, sample.category) == (None, None, None)


BAD_ROWS: list[Any] = [
    7,
    row(id="ABSENT"),
    row(image=None),
    row(conversations="ABSENT"),
    row(conversations=[{"from": "gpt", "value": "no question"}]),
    row(conversations=[{"from": "human", "value": 3}]),
    row(rle=[rle(2)]),
    row(rle=None),
    row(rle="none"),
    row(rle=[{"size": [H, W]}, rle(2)]),
    row(rle=[None, rle(2)]),
    row(normalized_answer=["left"]),
    row(image="999999.png"),
    row(image="../../train.json"),
]


def test_unusable_rows_are_counted_and_named(tmp_path: Path) -> None:
    skips = SkipLog(keep=99)
    samples = read_warehouse(write(tmp_path, [*BAD_ROWS, row("good")]), "train", skips=skips)
    assert [sample.id for sample in samples] == ["good"]
    assert skips.total == len(BAD_ROWS) and skips.counts["missing image"] == 2
    messages = [message for kept in skips.examples.values() for message in kept]
    assert len(messages) == len(BAD_ROWS)
    assert all(any(f"train.json row {index}:" in message for message in messages) for index in range(len(BAD_ROWS)))


def test_skips_are_logged_when_nobody_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_warehouse(write(tmp_path, [row(rle=[]), row("good")]), "train")
    assert "skipped 1: 1 x unusable row" in caplog.text


def test_no_usable_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of its 1 rows"):
        read_warehouse(write(tmp_path, [row(rle=[])]), "train")


@pytest.mark.parametrize(
    ("choice", "kinds"),
    [("auto", ["metric", "relative"]), ("relative", ["relative"] * 2), ("metric", ["metric", None]), ("none", [None] * 2)],
)
def test_depth_choice(tmp_path: Path, choice: Any, kinds: list[str | None]) -> None:
    root = write(tmp_path, [row(), row("q1", "000002.png")], metric=("000001",))
    maps = [load_sample_depth(sample) for sample in read_warehouse(root, "train", depth=choice)]
    assert [None if depth is None else depth.kind for depth in maps] == kinds


def test_asked_for_depth_must_exist(tmp_path: Path) -> None:
    root = write(tmp_path, [row()])
    with pytest.raises(DataError, match="depths_metric"):
        read_warehouse(root, "train", depth="metric")
    with pytest.raises(DataError, match="expected 'auto'"):
        read_warehouse(root, "train", depth="both")


def test_a_set_without_depth_is_fine(tmp_path: Path) -> None:
    root = write(tmp_path, [row()])
    for path in (root / "train" / "depths").iterdir():
        path.unlink()
    (sample,) = read_warehouse(root, "train")
    assert sample.depth is None and load_sample_depth(sample) is None


def test_captions_use_the_images_of_their_split(tmp_path: Path) -> None:
    root = write(tmp_path, [row()])
    caption = {
        "id": "c0",
        "image": "000001.png",
        "conversations": [{"from": "human", "value": "Describe."}, {"from": "gpt", "value": "A hall."}],
        "rle": [],
    }
    (root / "train_captions.json").write_text(json.dumps([caption]))
    (sample,) = read_warehouse(root, "train_captions")
    assert (sample.question, sample.answer, sample.regions) == ("Describe.", "A hall.", [])
    assert sample.image_key == read_warehouse(root, "train")[0].image_key
    assert available_splits(root) == ["train", "train_captions"]


def test_image_keys_tell_sets_splits_and_depth_choices_apart(tmp_path: Path) -> None:
    roots = [write(tmp_path / name, [row(), row("q1")], split) for name, split in (("a", "train"), ("a", "val"), ("b", "train"))]
    first = read_warehouse(roots[0], "train")
    assert first[0].image_key == first[1].image_key
    others = [read_warehouse(roots[1], "val"), read_warehouse(roots[2], "train"), read_warehouse(roots[0], "train", depth="none")]
    assert len({samples[0].image_key for samples in [first, *others]}) == 4


def test_missing_splits_say_what_there_is(tmp_path: Path) -> None:
    root = write(tmp_path, [row()])
    with pytest.raises(DataError, match=r"splits found in .*: train"):
        read_warehouse(root, "valid")
    with pytest.raises(DataError, match="none"):
        read_warehouse(tmp_path / "absent", "train")
    (root / "extra.json").write_text("[]")
    with pytest.raises(DataError, match="folder="):
        read_warehouse(root, "extra")
    assert read_warehouse(root, "extra", folder="train") == []


def test_packed_images_ask_to_be_unpacked(tmp_path: Path) -> None:
    root = write(tmp_path, [row()], images=())
    (root / "train" / "images" / "chunk_000.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match="unpack"):
        read_warehouse(root, "train")


def test_the_published_samples_nested_file_is_found(tmp_path: Path) -> None:
    root = write(tmp_path, [row()], split="train_sample")
    (root / "train_sample.json").rename(root / "train_sample" / "train_sample.json")
    assert available_splits(root) == ["train_sample"] and len(read_warehouse(root, "train_sample")) == 1


def test_rows_stream_from_lists_and_lines_of_any_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smolrgpt.data.io._CHUNK_CHARS", 7)
    rows = [{"id": f"a]b,[{i}", "text": "é" * i} for i in range(40)]
    for text in (json.dumps(rows), json.dumps(rows, indent=2), "\ufeff" + json.dumps(rows) + "\n", "\n".join(map(json.dumps, rows)) + "\n"):
        (tmp_path / "rows.json").write_text(text, encoding="utf-8")
        assert list(iter_rows(tmp_path / "rows.json")) == rows
    (tmp_path / "rows.json").write_text("[]")
    assert list(iter_rows(tmp_path / "rows.json")) == []


@pytest.mark.parametrize("text", ['[{"id": 1}, {"id": 2', '[{"id": 1}, ', '[{"id": 1}, {"id": oops}]', '{"id": 1}\n{"id"', '[{"id": 1}'])
def test_damaged_json_names_the_row(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DataError, match=r"rows.json row 1: damaged"):
        list(iter_rows(tmp_path / "rows.json"))


@pytest.mark.parametrize("text", ["[]", "{", '{"000001.png": {"fx": 1}}'])
def test_broken_cameras_are_an_error(tmp_path: Path, text: str) -> None:
    root = write(tmp_path, [row()])
    (root / "train" / "cameras.json").write_text(text)
    with pytest.raises(DataError, match=r"cameras\.json"):
        read_warehouse(root, "train")


def test_truncated_images_are_counted_skips(tmp_path: Path, processor: Any) -> None:
    root = write(tmp_path, [row("a"), row("b", "000002.png"), row("c"), row("d", "000003.png")], images=("000001", "000002", "000003"))
    for victim in ("images/000001.png", "depths/000003_depth.png"):
        whole = (root / "train" / victim).read_bytes()
        (root / "train" / victim).write_bytes(whole[: len(whole) // 2])
    samples, collator = read_warehouse(root, "train"), Collator(processor)
    batch, skips = collator([samples]), collator.skips
    alone = Collator(processor)([[samples[1]]])
    assert batch.keys() == alone.keys() and all(torch.equal(batch[name], alone[name]) for name in batch), "only b is left"
    assert skips.counts == {"unreadable image": 3} and "000001.png" in skips.summary()
    with pytest.raises(DataError, match=r"000001\.png"):
        load_image(read_warehouse(root, "train")[0])


def test_an_image_is_opened_once_for_all_its_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processor: Any) -> None:
    opened: list[Path] = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path, *rest, **options: opened.append(path) or real(path, *rest, **options))
    samples = read_warehouse(write(tmp_path, [row("a"), row("b", "000002.png"), row("c")]), "train")
    assert opened == []
    groups = list(group_by_image(samples).values())
    assert [[sample.id for sample in group] for group in groups] == [["a", "c"], ["b"]]
    assert Collator(processor)(groups)["image_index"].tolist() == [0, 0, 1]
    assert len(opened) == 4 == len(set(opened))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_pictures_of_every_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.full((H, W), 255, np.uint8))
    picture = Image.fromarray(np.full((H, W), 65535, np.uint16)) if mode == "I;16" else grey.convert("RGB").convert(mode)
    path = tmp_path / ("p.jpg" if mode == "CMYK" else "p.png")
    picture.save(path)
    image = load_image(Sample("s", path, "?"))
    assert image.mode == "RGB" and (np.asarray(image) >= 254).all()


def test_first_frame_and_upright(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (W, H), (255, 0, 0)), Image.new("RGB", (W, H), (0, 0, 255))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    assert load_image(Sample("s", tmp_path / "a.gif", "?")).getpixel((0, 0)) == (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn right to be upright
    red.save(tmp_path / "turned.jpg", exif=exif)
    assert load_image(Sample("s", tmp_path / "turned.jpg", "?")).size == (H, W)
    assert load_image(Sample("s", Image.open(tmp_path / "turned.jpg"), "?")).size == (H, W)


@pytest.mark.parametrize("name", ["bomb.png", "float.tiff", "empty.png", "absent.png"])
def test_images_that_cannot_be_used_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "bomb.png")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tiff")
    (tmp_path / "empty.png").write_bytes(b"")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
    with pytest.raises(DataError, match=name):
        load_image(Sample("s", tmp_path / name, "?"))


def test_a_large_image_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
    with pytest.raises(DataError, match="too large"):
        load_image(Sample("s", Image.new("RGB", (64, 32)), "?"))


def test_depth_in_memory_is_passed_through() -> None:
    depth = DepthMap(np.ones((H, W), np.float32), "metric")
    assert load_sample_depth(Sample("s", Image.new("RGB", (W, H)), "?", depth=depth)) is depth


def test_skip_logs_merge_and_stay_short() -> None:
    one, two = SkipLog(keep=2), SkipLog(keep=2)
    assert one and one.summary() == "nothing skipped"
    for index in range(3):
        one.add("bad", f"one {index}")
        two.add("bad", f"two {index}", count=2)
    taken = one.take()
    assert taken and taken.total == 3 and one.total == 0 and not one.examples
    one.merge(taken)
    one.merge(two)
    assert one.total == 9 and one.examples == {"bad": ["one 0", "one 1"]}


@pytest.mark.realdata
def test_real_rows_and_pixels() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("no real samples here")
    skips = SkipLog()
    root = SAMPLES / "mini"
    assert available_splits(root) == ["train", "val"]
    samples = [*read_warehouse(root, "train", skips=skips), *read_warehouse(root, "val", skips=skips)]
    assert [(s.category, s.normalized_answer) for s in samples] == [("distance", 5.99), ("mcq", "2"), ("left_right", "left")]
    for sample in samples:
        depth = load_sample_depth(sample)
        assert load_image(sample).size == (1920, 1080) and depth is not None and depth.values.shape == (1080, 1920)
        assert all(region.to_mask().shape == (1080, 1920) for region in sample.regions)
    left, right = (np.nonzero(region.to_mask())[1].mean() for region in samples[2].regions)
    assert left < right and skips.total == 0
    bare = read_warehouse(root, "test_style", folder="train")
    assert [sample.question for sample in bare] == [sample.question for sample in samples[:2]]
    assert all(sample.answer is None and sample.normalized_answer is None for sample in bare)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["records.json", "records_partial.json"])
def test_real_records_all_read(tmp_path: Path, name: str) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("no real samples here")
    rows = list(iter_rows(SAMPLES / name))
    write(tmp_path, rows, images=tuple(record["image"].removesuffix(".png") for record in rows))
    skips = SkipLog()
    samples = read_warehouse(tmp_path, "train", skips=skips)
    assert len(samples) == len(rows) and skips.total == 0
    for record, sample in zip(rows, samples, strict=True):
        assert [region.to_rle() for region in sample.regions] == record["rle"]
        assert sample.normalized_answer == record["normalized_answer"] and (sample.answer or "") == record["freeform_answer"]
        assert "<image>" not in sample.question
