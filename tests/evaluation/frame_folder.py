"""A tiny generated folder of the form that ``data.sources.frames`` reads: boxes on a plane, seen from above at a slant."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH, FOCAL = 96, 128, 110.0
#: Camera above the plane by so much, looking down by this angle.
CAMERA_M, TILT = 0.8, 0.6
#: Name -> middle (x, y) on the plane ahead of the camera, and sides (x, y, z), in metres at scale 1.
BOXES = {
    "mug": ((-0.3, 1.0), (0.16, 0.16, 0.2)),
    "tin": ((0.05, 1.15), (0.2, 0.12, 0.12)),
    "crate": ((0.42, 1.3), (0.25, 0.2, 0.3)),
    "book": ((-0.1, 0.75), (0.15, 0.2, 0.04)),
}


def write_frames(root: Path, num_frames: int = 2, scale: float = 1.0) -> list[dict[str, Any]]:
    """Write frames of the same still scene, multiplied by ``scale``, and questions about it with the boxes' own geometry as truth."""
    rng = np.random.default_rng(0)
    depth, labels = _cast(scale)
    rows: list[dict[str, Any]] = []
    for frame in range(num_frames):
        noisy = depth * (1 + 0.001 * rng.standard_normal(depth.shape))
        low, high = noisy.min(), noisy.max()
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)).save(root / f"{frame}.png")
        np.save(root / f"{frame}_depth.npy", noisy.astype(np.float32))
        Image.fromarray(np.rint(255 * (noisy - low) / (high - low)).astype(np.uint8)).save(root / f"{frame}_relative.png")
        rows += [_row(frame, number, asked, labels) for number, asked in enumerate(_questions(scale))]
    (root / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _rays() -> np.ndarray:
    """Return directions (H, W, 3) in scene axes (x right, y ahead, z up) of depth 1."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    x, y = (u - (WIDTH - 1) / 2) / FOCAL, (v - (HEIGHT - 1) / 2) / FOCAL
    ahead = np.cos(TILT) - y * np.sin(TILT)
    return np.stack([x, ahead, -np.sin(TILT) - y * np.cos(TILT)], -1)


def _cast(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return planar depth (H, W) and labels (H, W): 0 plane, 1.. boxes."""
    rays = _rays()
    with np.errstate(divide="ignore"):
        depth = np.where(rays[..., 2] < 0, -CAMERA_M / rays[..., 2], 50.0)
        labels = np.zeros(depth.shape, int)
        for label, ((x, y), sides) in enumerate(BOXES.values(), 1):
            low = np.array([x, y, 0.0]) - np.array([*sides[:2], 0]) / 2
            high = low + sides
            ends = np.stack([(end - (0, 0, CAMERA_M)) / rays for end in (low, high)])
            near, far = ends.min(0).max(-1), ends.max(0).min(-1)
            hit = (near < far) & (near > 0) & (near < depth)
            depth, labels = np.where(hit, near, depth), np.where(hit, label, labels)
    return np.minimum(depth, 50.0) * scale, labels


def _questions(scale: float) -> list[tuple[str, str, list[str], Any, str]]:
    """Return (category, kind, names, answer, question without nouns)."""
    middles = {name: np.array([*place, sides[2] / 2]) * scale for name, (place, sides) in BOXES.items()}

    def apart(first: str, second: str) -> float:
        return float(np.linalg.norm(middles[first] - middles[second]))

    asked: list[tuple[str, str, list[str], Any, str]] = []
    for first, second in itertools.combinations(BOXES, 2):
        side = "left" if middles[first][0] < middles[second][0] else "right"
        asked.append(("left_right", "left_right", [first, second], side, "Is <region 0> left or right of <region 1>?"))
        asked.append(("distance", "distance", [first, second], apart(first, second), "How far is <region 0> from <region 1>?"))
    names = list(BOXES)
    near = min(names[1:], key=lambda name: apart(names[0], name))
    asked.append(
        ("mcq", "closest", names, str(names.index(near)), "Which of <region 1>, <region 2> and <region 3> is nearest to <region 0>?")
    )
    left = min(names, key=lambda name: middles[name][0])
    asked.append(
        ("mcq", "leftmost", names, str(names.index(left)), "Of <region 3>, <region 2>, <region 1> and <region 0>, which is leftmost?")
    )
    asked.append(
        ("mcq", "tallest", names, str(names.index("crate")), "Of <region 0>, <region 1>, <region 2> and <region 3>, the tallest is?")
    )
    count = sum(apart(names[0], name) < 0.42 * scale for name in names[1:])
    asked.append(("count", "within", names, count, "How many of <region 1>, <region 2> and <region 3> are near <region 0>?"))
    asked.append(("height", "height", ["crate"], 0.3 * scale, "How tall is <region 0>?"))
    return asked


def _row(frame: int, number: int, asked: tuple[str, str, list[str], Any, str], labels: np.ndarray) -> dict[str, Any]:
    from smolrgpt.schema import Region

    category, kind, names, answer, question = asked
    named = question
    for index, name in enumerate(names):
        named = named.replace(f"<region {index}>", f"the {name} <region {index}>")
    regions = [{"rle": Region.from_mask(labels == 1 + list(BOXES).index(name)).to_rle()} for name in names]
    return {
        "id": f"{frame}-{number}",
        "frame": str(frame),
        "source": "drawn",
        "scale": "table",
        "image": f"{frame}.png",
        "depth": f"{frame}_depth.npy",
        "depth_relative": f"{frame}_relative.png",
        "camera": {"fx": FOCAL, "fy": FOCAL, "cx": (WIDTH - 1) / 2, "cy": (HEIGHT - 1) / 2},
        "category": category,
        "kind": kind,
        "regions": regions,
        "names": names,
        "question": named,
        "question_plain": question,
        "question_official": question,
        "answer": answer,
        "threshold_m": 0.42,
        "sequence": str(number),
    }
