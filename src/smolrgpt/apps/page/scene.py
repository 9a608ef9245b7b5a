"""The scene on the web page: an image, its depth and camera, its marked regions and the answers so far. Needs no Gradio."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smolrgpt.data.frame import Frame, find_turn
from smolrgpt.inference.answer import Answer
from smolrgpt.schema import Camera, DataError, DepthMap, DepthMeaning, Region, Sample, naming
from smolrgpt.schema.image_file import read_image, read_upright, turn_upright
from smolrgpt.tasks.mentions import write_mentions
from smolrgpt.tasks.units import in_metres

#: Scenes of the synthetic warehouse that the page draws; nothing from this seed on was ever trained on.
HELD_OUT_SEED = 20_000_000
MAX_REGIONS = 32  #: as many as the bundled model has names for
#: Objects of a mask file; more values than these are those of JPEG or of soft edges.
_MAX_INSTANCES = 1000


@dataclass
class Scene:
    """One image on the page, with its depth, camera, marked regions and questions.

    Attributes:
        image: 8-bit RGB, upright.
        depth: of the same view, or None.
        camera: or None.
        instances: int (H, W) labels of a mask file, 0 = no object; None without such a file.
        regions: the marked ones.
        examples: questions that fit the regions.
        history: questions with their answers.
        name: of saved files.
        orientation: the EXIF orientation (1 to 8) of the image's stored pixels, with which depth and masks of them are turned.
    """

    image: Image.Image
    depth: DepthMap | None = None
    camera: Camera | None = None
    instances: np.ndarray | None = None
    regions: list[Region] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    history: list[tuple[str, Answer]] = field(default_factory=list)
    name: str = "image"
    orientation: int = 1

    @property
    def frame(self) -> Frame:
        """The image with its depth and camera, as the predictor takes them."""
        return Frame(self.image, self.depth, self.camera, self.orientation)

    @property
    def size(self) -> tuple[int, int]:
        """Size of the image: (height, width) in pixels."""
        return self.image.height, self.image.width

    @property
    def is_metric(self) -> bool:
        """Whether positions in metres can be computed."""
        return self.depth is not None and self.depth.kind == "metric" and self.camera is not None


# ------------------------------------------------------------------------------------------------------------------------- open
def open_image(path: str | Path) -> Scene:
    """Open an image file as a scene without regions. Raises DataError naming the file."""
    image, orientation = read_upright(path)
    return Scene(image, name=Path(path).stem, orientation=orientation)


def load_depth(scene: Scene, path: str | Path, unit: Any = None, kind: Any = None, near: Any = None) -> None:
    """Load the scene's depth from a file; what is empty of unit, kind and near is not stated, see ``DepthMeaning``.

    Raises DataError naming the file, also for a map of another shape than the image.
    """
    with naming(path):
        scene.depth = scene.frame.fit_depth(DepthMap.from_file(path, DepthMeaning(near or None, kind or None, unit or None)))


def set_camera(scene: Scene, text: str) -> None:
    """Set the scene's camera from ``fx, fy, cx, cy`` in pixels of the image; empty text removes it. Raises DataError."""
    scene.camera = Camera.from_text(text, *scene.size) if text.strip() else None


def load_instances(scene: Scene, path: str | Path) -> int:
    """Load a mask file of the image, whose objects become regions by a click; return how many there are.

    A mask of one object is read by the rules of ``schema.mask_values``. In any other, every value above 0, or colour that is not black, is
    an object. Raises DataError naming the file.
    """
    image, name = read_image(path, single=True), Path(path).name
    turn = _find_turn(scene, path, image)
    try:
        labels = Region.from_image(image).to_mask().astype(np.int64)
    except DataError:
        labels = _read_labels(image)
    values = np.unique(labels[labels > 0])
    if not len(values):
        raise DataError(f"{name} holds no instance: all its pixels are 0; expected another number for each object")
    if len(values) > _MAX_INSTANCES:
        raise DataError(f"{name} holds {len(values)} values; expected one for each object, in a file without losses or soft edges (PNG)")
    labels = turn_upright(labels, turn)
    scene.instances = np.searchsorted(values, labels) + 1
    scene.instances[labels <= 0] = 0
    return len(values)


def _read_labels(image: Image.Image) -> np.ndarray:
    """Return the number or colour of each pixel: int64 (H, W)."""
    single = image.mode in ("1", "L", "P", "I", "F") or image.mode.startswith("I;16")
    values = np.asarray(image if single else image.convert("RGB")).astype(np.int64)
    return values if values.ndim == 2 else values @ (65536, 256, 1)


def _find_turn(scene: Scene, path: str | Path, image: Image.Image) -> int:
    try:
        return find_turn((image.height, image.width), scene.size, scene.orientation)
    except DataError as error:
        raise DataError(f"{Path(path).name} is {image.width}x{image.height}, {error}; expected masks of the whole image") from None


def scene_from_samples(samples: Sequence[Sample], name: str) -> Scene:
    """Return a data set's image with the regions and texts of all questions about it. Raises DataError where a file cannot be read."""
    frame = Frame.from_sample(samples[0])
    table = list(dict.fromkeys(region for sample in samples for region in sample.regions))
    return Scene(
        frame.image,
        frame.depth,
        frame.camera,
        regions=[frame.fit_region(f"region {index}", region) for index, region in enumerate(table[:MAX_REGIONS])],
        examples=[
            write_mentions(sample.question, [table.index(region) for region in sample.regions])
            for sample in samples[:24]
            if set(sample.regions) <= set(table[:MAX_REGIONS])
        ],
        name=name,
        orientation=frame.orientation,
    )


def draw_scene(seed: int, layouts: str = "known") -> Scene:
    """Draw a synthetic scene with all its regions and the questions its generator asks. Raises ValueError for unknown layouts."""
    from smolrgpt.data.worlds import generate_scene, random_generator, resolve_layouts, scene_samples

    path, families = (HELD_OUT_SEED + seed, 0), resolve_layouts(layouts)
    scene = generate_scene(path, families[seed % len(families)])
    samples = scene_samples(scene, 8, random_generator(*path, 1), key=f"scene {seed}")
    return scene_from_samples(samples, f"scene-{seed}")


def open_sample(path: str | Path) -> Scene:
    """Open a sample that ``export_sample`` wrote. Raises DataError naming the file."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        image = Path(path).parent / Path(str(found["image"])).name
        regions = [Region.from_rle(rle) for rle in found["regions"]]
        camera = None if found.get("camera") is None else Camera.from_any(found["camera"])
        depth = None if found.get("depth") is None else Path(path).parent / Path(str(found["depth"])).name
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{Path(path).name} is no sample written by this page ({type(error).__name__}: {error})") from error
    scene = open_image(image)
    scene.regions, scene.camera = [scene.frame.fit_region(f"region {index}", region) for index, region in enumerate(regions)], camera
    if depth is not None:
        load_depth(scene, depth, kind=found.get("depth_kind"))
    return scene


# ------------------------------------------------------------------------------------------------------------------------- mark
def add_region(scene: Scene, region: Region) -> None:
    """Mark one more region. Raises DataError when there are as many as a model can name."""
    if len(scene.regions) >= MAX_REGIONS:
        raise DataError(f"{MAX_REGIONS} regions are marked; take one away first")
    scene.regions.append(region)
    scene.examples = example_questions(len(scene.regions))


def apply_gesture(scene: Scene, action: str, data: dict[str, Any]) -> None:
    """Apply one gesture on the image: box {box}, polygon {points}, brush {mask}, pick {x, y}, delete {number}, undo or clear.

    Coordinates are shares of the image's width and height, 0 to 1; a brush's mask is an image. Raises DataError whose message
    names the alternative.
    """
    height, width = scene.size
    if action == "box":
        add_region(scene, Region.from_box(data["box"], height, width, "normalized"))
    elif action == "polygon":
        add_region(scene, Region.from_polygon(data["points"], height, width, "normalized"))
    elif action == "brush":
        painted = Image.fromarray(np.asarray(data["mask"].convert("RGBA"))[..., 3]).resize((width, height), Image.Resampling.NEAREST)
        add_region(scene, Region.from_mask(np.asarray(painted) > 127))
    elif action == "pick":
        add_region(scene, _picked(scene, float(data["x"]), float(data["y"])))
    elif action == "delete" and 0 <= int(data["number"]) < len(scene.regions):
        del scene.regions[int(data["number"])]
        scene.examples = example_questions(len(scene.regions))
    elif action == "undo" and scene.regions:
        apply_gesture(scene, "delete", {"number": len(scene.regions) - 1})
    elif action == "clear":
        scene.regions, scene.examples = [], []


def _picked(scene: Scene, x: float, y: float) -> Region:
    if scene.instances is None:
        raise DataError("there are no masks to pick from; open a mask file of this image first, or draw a box")
    height, width = scene.instances.shape
    label = scene.instances[min(int(y * height), height - 1), min(int(x * width), width - 1)]
    if not label:
        raise DataError("there is no instance at this position; click on an object of the mask file")
    region = Region.from_mask(scene.instances == label)
    if region in scene.regions:
        raise DataError(f"this is region {scene.regions.index(region)} already")
    return region


def example_questions(num_regions: int) -> list[str]:
    """Return questions that can be asked about the regions marked last."""
    if num_regions == 0:
        return []
    last = f"<region {num_regions - 1}>"
    questions = [f"How tall is {last}?", f"How wide is {last}?"]
    if num_regions >= 2:
        before = f"<region {num_regions - 2}>"
        questions += [f"How far is {before} from {last}?", f"Is {before} to the left or to the right of {last}?"]
    if num_regions >= 3:
        some = " ".join(f"<region {number}>" for number in range(min(num_regions, 8)))
        first, others = some.split(" <", 1)
        questions += [f"Which of the pallets {some} is the leftmost?", f"Which of the pallets <{others} is closest to {first}?"]
    return questions


# ----------------------------------------------------------------------------------------------------------------------- export
def export_sample(scene: Scene, folder: Path) -> list[Path]:
    """Write image, depth and the last question as a sample: a JSON file and the files it names. Returns the paths, JSON first."""
    image, files = folder / f"{scene.name}.png", []
    scene.image.save(image)
    if scene.depth is not None:
        np.save(folder / f"{scene.name}-depth.npy", scene.depth.values)
        files.append(folder / f"{scene.name}-depth.npy")
    question, answer = scene.history[-1] if scene.history else ("", None)
    found = {
        "id": scene.name,
        "image": image.name,
        "depth": files[0].name if files else None,
        "depth_kind": None if scene.depth is None else scene.depth.kind,
        "camera": None if scene.camera is None else dataclasses.asdict(scene.camera),
        "regions": [region.to_rle() for region in scene.regions],
        "question": question,
        "answer": None if answer is None else answer.answer,
        "normalized_answer": None if answer is None else in_metres(answer.normalized_answer, answer.unit),
        "category": None if answer is None else answer.category,
    }
    path = folder / f"{scene.name}.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [path, image, *files]


def export_image(scene: Scene, folder: Path) -> list[Path]:
    """Write an image of the numbered regions, the depth and all questions and answers so far. Returns its path."""
    from smolrgpt.viz.drawing import draw_regions

    path = folder / f"{scene.name}-answers.png"
    rows: Sequence[dict[str, Any]] = [{"question": question, "answer": answer.answer} for question, answer in scene.history]
    draw_regions(scene.image, scene.regions, depth=scene.depth, answer=rows or None).save(path)
    return [path]
