"""The forms in which programs write a pinhole camera: text, JSON, YAML and NumPy files, matrices, mappings and objects, as plain fields.

| written by | form |
|---|---|
| most programs | fx, fy, cx, cy; a row-major 3x3 matrix K |
| Open3D, ARKit, Record3D, MATLAB | nine numbers, column-major; the zeros state which order it is |
| ROS | camera_info (K or k, P or p, D or d, width, height); calibration files with camera_matrix and image_width |
| RealSense | ppx, ppy, fx, fy, model, coeffs |
| OpenCV | YAML of FileStorage with camera_matrix and distortion_coefficients; .npz with mtx and dist |
| nerfstudio, instant-ngp | fl_x, fl_y, cx, cy, w, h, k1, k2, p1, p2, or camera_angle_x |
| KITTI, ScanNet | a 3x4 projection matrix; a 4x4 intrinsic matrix |
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from smolrgpt.schema.errors import DataError, brief, naming
from smolrgpt.schema.image_file import is_file, open_file

#: Field -> its spellings in lower case without "_", "-", "." and spaces.
_SPELLINGS = {
    "fx": "fx flx focalx focallengthx",
    "fy": "fy fly focaly focallengthy",
    "cx": "cx ppx principalpointx",
    "cy": "cy ppy principalpointy",
    "focal": "f focal focallength",
    "center": "principalpoint",
    "angle": "cameraanglex",
    "width": "width w imagewidth",
    "height": "height h imageheight",
    "size": "resolution imagesize imageresolution",
    "matrix": "k camk kmatrix mtx matrix cameramatrix cameraintrinsics intrinsic intrinsics intrinsicmatrix intrinsicsmatrix",
    "projection": "p projectionmatrix",
    "distortion": "d dist distortion distcoeffs distortioncoeffs distortioncoefficients coeffs",
    "model": "model cameramodel distortionmodel",
    "roi": "roi",
    "guessed": "isguessed",
    **{name: name for name in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")},
}
_FIELDS = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings.split()}
#: OpenCV's order of the coefficients.
_COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
#: Number of elements -> shape of a matrix that holds the intrinsics in its upper left 3x3 block.
_MATRICES = {9: (3, 3), 12: (3, 4), 16: (4, 4)}
#: Fields of several numbers, which a mapping or a text may hold.
_ARRAYS = ("matrix", "projection", "distortion", "size")
#: Largest skew, as a share of fx, of a matrix that is read as fx, fy, cx, cy.
_MAX_SKEW = 0.05
KNOWN_FORMS = (
    "fx,fy,cx,cy in pixels of the image, a 3x3 matrix, or JSON or YAML with fx, fy, cx, cy (fl_x, ppx, ...), K, camera_matrix, "
    "intrinsic_matrix or P, and with width and height where it belongs to another size of the image"
)

#: A camera's fields as far as they are written: fx, fy, cx, cy; width and height; distortion, distortion_model, is_guessed.
Fields = dict[str, Any]


def is_camera_field(name: Any) -> bool:
    """Return whether a field of that name is read where a mapping holds a camera."""
    return _plain(name) in _FIELDS


def read_fields(value: Any, folder: Path | None = None) -> Fields:
    """Return the fields of a camera in any form.

    value: a mapping, an array or nested lists of numbers, an object with such attributes, text as of ``parse_text``, or the path of a
    file, relative to ``folder``. Raises DataError for everything else.
    """
    if isinstance(value, str) and not _is_path(value, folder):
        return read_fields(parse_text(value))
    if isinstance(value, (str, Path)):
        with naming(value):
            return read_fields(_read_file(Path(folder or "", value)))
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if hasattr(value, "__array__") or hasattr(value, "detach") or isinstance(value, (list, tuple)):
        return _from_numbers(value)
    names = [name for name in dir(value) if _plain(name) in _FIELDS and not callable(getattr(value, name, None))]
    return _from_mapping({name: getattr(value, name) for name in names}) if names else _refuse(value)


def parse_text(text: str) -> Any:
    """Read numbers, JSON, YAML or ``fx=..., fy=...`` from text. Opens no file. Raises DataError."""
    text = text.lstrip("\ufeff").strip()
    words = re.sub(r"[\[\](),;]", " ", re.sub(r"(?m)^\s*#.*$", "", text)).split()
    try:
        return [float(word) for word in words] or _refuse(text)
    except ValueError:
        pass
    for parse in (json.loads, _parse_yaml, _parse_assignments):
        try:
            found = parse(text)
        except (ValueError, yaml.YAMLError, RecursionError, TypeError, AttributeError):
            continue
        if isinstance(found, (Mapping, list)) and found:
            return found
    return _refuse(text)


def _is_path(text: str, folder: Path | None) -> bool:
    """Return whether text names a file: there is one, or the text is one line that ends as file names do."""
    return bool(re.fullmatch(r"[^\n{}\[\]=]*\.[A-Za-z]\w*", text)) or is_file(f"{folder or '.'}/{text}") or is_file(text)


def _refuse(value: Any) -> Any:
    raise DataError(f"camera {brief(value)}: expected {KNOWN_FORMS}")


# ------------------------------------------------------------------------------------------------------------------------- files
def _read_file(path: Path) -> Any:
    with open_file(path) as file:
        data = file.read()
    if path.suffix.lower() in (".npy", ".npz"):
        try:
            loaded = np.load(path, allow_pickle=False)
            return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"cannot read this camera as a NumPy file ({error})") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:64]:
        raise DataError("this camera is in UTF-16 or no text; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"this camera is not UTF-8 ({error}); save it as UTF-8") from error
    if text.lstrip().startswith("<"):
        raise DataError("this camera is XML; save it as JSON or YAML")
    return parse_text(text)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # no stubs
    """Reads YAML and OpenCV's matrices in it; aliases, which could stand for any amount of data, are refused."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, deep=True))


def _parse_yaml(text: str) -> Any:
    """Return the first document; the header of OpenCV's files, ``%YAML:1.0``, is no YAML and left out."""
    return next(yaml.load_all(re.sub(r"\A%YAML.*\n", "", text), Loader=_Loader), None)


def _parse_assignments(text: str) -> dict[str, str]:
    """Read ``fx=600 fy=600 ...`` or a printed object, ``Camera(fx=600, ...)``."""
    return dict(re.findall(r"([A-Za-z_]\w*)\s*[=:]\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)", text))


# ----------------------------------------------------------------------------------------------------------------------- numbers
def _as_numbers(value: Any) -> np.ndarray:
    """Return numbers as float64 without axes of length 1. Raises DataError."""
    try:
        value = value.detach().cpu() if hasattr(value, "detach") else value
        return np.squeeze(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(f"camera {brief(value)}: expected numbers") from error


def _from_numbers(value: Any) -> Fields:
    """Read fx, fy, cx, cy, the same with width and height, or a matrix."""
    numbers = _as_numbers(value)
    if numbers.shape in ((4,), (6,)):
        return dict(zip(("fx", "fy", "cx", "cy", "width", "height"), numbers.tolist(), strict=False))
    shape = _MATRICES.get(numbers.size)
    if shape is None or numbers.ndim > 2:
        return dict(_refuse(value))
    if not numbers.any():
        raise DataError("the camera's matrix is all zeros: it was not calibrated")
    row_major, column_major = numbers.reshape(shape), numbers.reshape(shape[::-1]).T
    for matrix in (row_major, column_major):
        (fx, skew, cx), (below, fy, cy), last = matrix[:3, :3]
        if below == 0 and last.tolist() == [0, 0, 1] and abs(skew) <= _MAX_SKEW * abs(fx):
            return {"fx": fx.item(), "fy": fy.item(), "cx": cx.item(), "cy": cy.item()}
    raise DataError(
        f"camera {brief(numbers.round(4).tolist())} is no intrinsic matrix in row-major or column-major order; expected [fx 0 cx; 0 fy cy; "
        "0 0 1] in pixels"
    )


def _pair(value: Any) -> list[float]:
    """Return one number twice, two numbers, or x and y of a mapping."""
    if isinstance(value, Mapping):
        value = [item for _, item in sorted((_plain(key), item) for key, item in value.items())]
    numbers = np.atleast_1d(_as_numbers(value)).ravel().tolist()
    if len(numbers) not in (1, 2):
        raise DataError(f"camera field {brief(value)}: expected two numbers")
    return [numbers[0], numbers[-1]]


# ---------------------------------------------------------------------------------------------------------------------- mappings
def _plain(key: Any) -> str:
    return re.sub(r"[\s_.-]", "", str(key)).lower()


def _gather(value: Mapping[Any, Any]) -> Fields:
    """Return the known fields of a mapping. Raises DataError where two spellings of a field disagree."""
    found: Fields = {}
    for key, item in value.items():
        name = _FIELDS.get(_plain(key))
        if name is None or item is None:
            continue
        new = {name: item}
        if name in _ARRAYS and isinstance(item, Mapping):
            rows = next((item[key] for key in ("data", "columns", "rows") if isinstance(item.get(key), list)), None)
            new = _gather(item) if rows is None else {name: rows}
        elif name == "distortion" and isinstance(item, str) and not re.search(r"\d", item):
            new = {"model": item}
        elif name in _ARRAYS and isinstance(item, str):
            new = {name: parse_text(item.replace("x", " "))}  # 640x480
        for field, content in new.items():
            if field == "model":
                content = f"{found.get('model', '')} {content}".strip()  # a camera and its distortion may both have one
            elif field in found and repr(found[field]) != repr(content):
                raise DataError(f"the camera has two values of {field} ({brief(key)} is one); expected one")
            found[field] = content
    return found


def _from_mapping(value: Mapping[Any, Any]) -> Fields:
    """Read a mapping, or the one camera among its values."""
    found = _gather(value)
    if (intrinsics := _intrinsics(found)) is None:
        return _only_camera(value, found)
    sizes = _pair(found["size"]) if "size" in found else (None, None)
    for name, number in zip(("width", "height"), sizes, strict=True):
        if found.get(name, number) is not None:
            intrinsics[name] = found.get(name, number)
    _require_whole_image(found.get("roi"), intrinsics)
    intrinsics["distortion"] = tuple(np.atleast_1d(_distortion(found)).ravel().tolist())
    intrinsics["distortion_model"] = str(found.get("model", ""))
    intrinsics["is_guessed"] = found.get("guessed") is True
    return intrinsics


def _intrinsics(found: Fields) -> Fields | None:
    """Return fx, fy, cx and cy; None where they are not written."""
    if "matrix" in found or ("projection" in found and "fx" not in found):
        fields = _from_numbers(found.get("matrix", found.get("projection")))
        for name in ("fx", "fy", "cx", "cy"):
            if name in found and not math.isclose(_pair(found[name])[0], fields[name], rel_tol=0.01):
                raise DataError(f"the camera has two values of {name}, {brief(found[name])} and {fields[name]:.6g} of its matrix")
        return {name: fields[name] for name in ("fx", "fy", "cx", "cy")}
    focal = _pair(found["focal"]) if "focal" in found else [found.get("fx"), found.get("fy", found.get("fx"))]
    center = _pair(found["center"]) if "center" in found else [found.get("cx"), found.get("cy")]
    if focal[0] is None and "angle" in found and "width" in found:  # nerfstudio's angle of the width, in radians
        with np.errstate(divide="ignore"):
            focal = [_pair(found["width"])[0] / 2 / np.tan(_pair(found["angle"])[0] / 2)] * 2
    if None in focal or None in center:
        return None
    return dict(zip(("fx", "fy", "cx", "cy"), (*focal, *center), strict=True))


def _distortion(found: Fields) -> np.ndarray:
    if "distortion" in found:
        return _as_numbers(found["distortion"])
    last = max((i for i, name in enumerate(_COEFFICIENTS) if name in found), default=-1)
    return _as_numbers([found.get(name, 0) for name in _COEFFICIENTS[: last + 1]])


def _require_whole_image(roi: Any, intrinsics: Fields) -> None:
    """Raise DataError for ROS intrinsics of the whole sensor whose image is a part of it."""
    if not isinstance(roi, Mapping):
        return
    whole = {"x_offset": 0, "y_offset": 0, "width": intrinsics.get("width"), "height": intrinsics.get("height")}
    if any(isinstance(roi.get(name), (int, float)) and roi[name] not in (0, side) for name, side in whole.items()):
        raise DataError(f"the camera's image is a part of the sensor (roi {brief(dict(roi))}); give fx, fy, cx, cy of the part")


def _only_camera(value: Mapping[Any, Any], found: Fields) -> Fields:
    """Return the camera among the values of a mapping, with the mapping's own size where it has none."""
    outer = {name: found[name] for name in ("width", "height") if name in found}
    cameras: dict[Hashable, Fields] = {}
    names = []
    for key, item in value.items():
        if isinstance(item, Mapping) and _plain(key) not in _FIELDS and _intrinsics(_gather(item)) is not None:
            cameras.setdefault(repr(fields := outer | _from_mapping(item)), fields)
            names.append(str(key))
    if len(cameras) > 1:
        raise DataError(f"there are {len(cameras)} cameras ({brief(', '.join(names))}); give the one of this image alone")
    if not cameras:
        raise DataError(f"the camera has {brief(', '.join(map(str, value)) or 'no field', 120)}; expected {KNOWN_FORMS}")
    return next(iter(cameras.values()))
