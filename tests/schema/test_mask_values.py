"""Laws of masks: the same object, as any program writes it, is the same region, and what may be another one is refused in words."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from smolrgpt.schema import DataError, Region

H, W = 90, 120
YY, XX = np.mgrid[:H, :W]
#: An object with straight, slanted and round edges, and a thin part.
MASK = ((YY - 40) ** 2 + (XX - 45) ** 2 < 25**2) | ((XX > 60) & (XX < 95) & (YY > 30) & (YY < 62 + XX / 10)) | ((YY == 20) & (XX > 50))
GREY = Image.fromarray(MASK.astype(np.uint8) * 255)


def inside(form: Any, **options: Any) -> np.ndarray:
    """The mask of a region in any form."""
    return Region.from_any({"mask": form} | options if options else form, H, W).to_mask()


def compressed(image: Image.Image, form: str, **options: Any) -> Image.Image:
    file = io.BytesIO()
    image.save(file, form, **options)
    return Image.open(file)


def palette(*colours: tuple[int, int, int], levels: np.ndarray = MASK) -> Image.Image:
    image = Image.fromarray(levels.astype(np.uint8))
    image.putpalette([number for colour in colours for number in colour])
    return image


class Tensor:
    """The part of a torch tensor that is used, so that these tests need no torch."""

    def __init__(self, values: np.ndarray):
        self.values = values

    def detach(self) -> Tensor:
        return self

    cpu = float = detach

    def is_floating_point(self) -> bool:
        return self.values.dtype.kind == "f"

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values


PROBABILITIES = np.where(MASK, 0.51, 0.49).astype(np.float32)
EXACT: dict[str, Any] = {
    **{f"array of {kind}": MASK.astype(kind) for kind in ("bool", "uint8", "int8", "int64", "uint16", "float32", "float16", "float64")},
    "0 and 255": MASK.astype(np.uint8) * 255,
    "0 and 7": MASK.astype(np.int32) * 7,
    "floats 0 and 255": MASK.astype(np.float32) * 255,
    "probabilities": PROBABILITIES,
    "logits": np.where(MASK, 0.01, -7.0),
    "logits without end": np.where(MASK, np.inf, -np.inf),
    "NaN outside": np.where(MASK, 1.0, np.nan),
    "interpolated probabilities": np.where(MASK, 1.04, -0.03) + np.where(XX == 0, 0.04, 0),
    "masked array": np.ma.masked_array(np.ones((H, W)), mask=~MASK),
    "(1, H, W)": MASK[None],
    "(H, W, 1)": MASK[..., None],
    "(1, 1, H, W)": PROBABILITIES[None, None],
    "tensor": Tensor(MASK[None]),
    "tensor of probabilities": Tensor(PROBABILITIES),
    "nested lists": MASK.tolist(),
    "OpenCV's (H, W, 3)": np.stack([MASK.astype(np.uint8) * 255] * 3, axis=-1),
    "fortran order": np.asfortranarray(MASK),
    "SAM": {"segmentation": MASK, "area": 1, "bbox": [1, 2, 3, 4], "predicted_iou": 0.9, "stability_score": 0.9, "crop_box": [0, 0, W, H]},
    "SAM with run lengths": {"segmentation": Region.from_mask(MASK).to_rle(), "bbox": [1, 2, 3, 4]},
    "a pipeline of transformers": {"mask": GREY, "score": 0.9, "label": "cat"},
    "array by name": {"mask": MASK},
    "run lengths": {"rle": Region.from_mask(MASK).to_rle()},
    "run lengths in bytes": {"size": np.array([H, W]), "counts": Region.from_mask(MASK).counts.encode()},
    "run lengths in numbers": {"size": (H, W), "counts": Region.from_mask(MASK).to_runs()},
    "1": GREY.convert("1"),
    "L": GREY,
    "RGB": GREY.convert("RGB"),
    "RGBA, opaque": GREY.convert("RGBA"),
    "CMYK": GREY.convert("CMYK"),
    "La": Image.merge("LA", (Image.new("L", (W, H), 90), GREY)).convert("La"),
    "LA": Image.merge("LA", (Image.new("L", (W, H), 90), GREY)),
    "I;16": Image.fromarray(MASK.astype(np.uint16) * 65535),
    "I": Image.fromarray(MASK.astype(np.int32)),
    "F": Image.fromarray(PROBABILITIES),
    "limited range": Image.fromarray(np.where(MASK, 235, 16).astype(np.uint8)),
    "palette": palette((0, 0, 0), (255, 255, 255)),
    "palette, white first": palette((255, 255, 255), (0, 0, 0), levels=~MASK),
    "palette of an annotation tool": palette((0, 0, 0), (128, 0, 0)),
    "palette without colours": palette(*[(0, 0, 0)] * 256),
    "red on black": Image.composite(Image.new("RGB", (W, H), (200, 10, 20)), Image.new("RGB", (W, H)), GREY),
    "overlay": Image.merge("RGBA", (*Image.new("RGB", (W, H), (255, 0, 90)).split(), GREY.point(lambda level: level * 0.35))),
    "GIF": compressed(GREY, "GIF"),
}


@pytest.mark.parametrize("form", EXACT)
def test_forms_of_one_mask_are_one_region(form: str) -> None:
    np.testing.assert_array_equal(inside(EXACT[form]), MASK)


def test_an_image_with_a_stray_transparent_pixel_is_read_by_its_colours() -> None:
    image = GREY.convert("RGBA")
    for alpha in (254, 0):
        image.putpixel((3, 3), (0, 0, 0, alpha))
        np.testing.assert_array_equal(inside(image), MASK)


@pytest.mark.parametrize("quality", [10, 30, 40, 60, 75, 90, 95, 98, 100])
@pytest.mark.parametrize("colour", [(255, 255, 255), (255, 0, 0), (0, 255, 0)])
def test_jpeg_keeps_the_area(quality: int, colour: tuple[int, int, int]) -> None:
    image = Image.composite(Image.new("RGB", (W, H), colour), Image.new("RGB", (W, H)), GREY)
    image = image.convert("L") if colour[2] else image
    found = inside(compressed(image, "JPEG", quality=quality))
    assert abs(int(found.sum()) - int(MASK.sum())) <= (0.02 if colour[2] or quality >= 60 else 0.06) * MASK.sum()


def antialiased(levels: int) -> Image.Image:
    """Edges of so many grey levels."""
    large = GREY.resize((W * 8, H * 8), Image.Resampling.BICUBIC).point(lambda level: 255 * (level > 127))
    small = np.asarray(large.resize((W, H), Image.Resampling.BOX), dtype=float)
    return Image.fromarray(np.rint(np.rint(small / 255 * (levels - 1)) * 255 / (levels - 1)).astype(np.uint8))


SOFT: dict[str, Image.Image] = {
    **{f"{levels} levels": antialiased(levels) for levels in (3, 4, 5, 17, 256)},
    **{f"blurred by {radius}": GREY.filter(ImageFilter.GaussianBlur(radius)) for radius in (0.5, 1, 2, 4)},
    "enlarged": GREY.resize((W // 2, H // 2), Image.Resampling.BILINEAR).resize((W, H), Image.Resampling.BICUBIC),
    "GIF": compressed(GREY.filter(ImageFilter.GaussianBlur(1)), "GIF"),
}


@pytest.mark.parametrize("kind", SOFT)
@pytest.mark.parametrize("form", ["image", "palette", "uint8", "float", "uint16", "probabilities", "alpha"])
def test_soft_edges_are_cut_half_way(kind: str, form: str) -> None:
    image = SOFT[kind].convert("L")
    levels = np.asarray(image).astype(np.float64)
    forms: dict[str, Callable[[], Any]] = {
        "image": lambda: image,
        "palette": lambda: image.convert("P"),
        "uint8": lambda: levels.astype(np.uint8),
        "float": lambda: levels,
        "uint16": lambda: (levels * 257).astype(np.uint16),
        "probabilities": lambda: levels / 255,
        "alpha": lambda: Image.merge("LA", (image, image)),
    }
    found = inside(forms[form]())
    np.testing.assert_array_equal(found, levels > (levels.min() + levels.max()) / 2 if form != "probabilities" else levels > 127.5)
    assert abs(int(found.sum()) - int(MASK.sum())) <= 0.08 * MASK.sum()  # the thin part


OTHER = (XX > 98) & (YY > 60)
LABELS: dict[str, Any] = {
    **{f"{a} and {b}": np.where(OTHER, b, np.where(MASK, a, 0)) for a, b in ((1, 2), (7, 12), (1, 255), (128, 255), (100, 200))},
    "void around it": np.where(MASK, 1, np.where(np.asarray(GREY.filter(ImageFilter.MaxFilter(3))) > 0, 255, 0)),
    "instances": np.where(OTHER, 26002, np.where(MASK, 26001, 7)),
    "no background": np.where(MASK, 1, 2),
    "many": (XX // 6 + 20 * (YY // 6)) % 200,
}


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("form", ["array", "image", "floats", "palette"])
def test_label_images_need_the_value_named(name: str, form: str, tmp_path: Path) -> None:
    levels = LABELS[name].astype(np.int32)
    value = int(levels[40, 45])
    if form == "palette" and (levels.max() > 255 or len(np.unique(levels)) == 2):
        return  # of two colours, the colours decide
    colours = np.random.default_rng(0).integers(0, 255, (256, 3))
    mask = {
        "array": lambda: levels,
        "floats": lambda: levels.astype(np.float32),
        "image": lambda: Image.fromarray(levels.astype(np.uint8 if levels.max() < 256 else np.uint16)),
        "palette": lambda: palette(*map(tuple, colours.tolist()), levels=levels),
    }[form]()
    with pytest.raises(DataError, match=r'name the value inside, as \{"mask": \.\.\., "value": 1\} or label:1:FILE'):
        inside(mask)
    np.testing.assert_array_equal(inside(mask, value=value), levels == value)
    with pytest.raises(DataError, match="no pixel of the mask has the value 201; it holds "):
        inside(mask, value=201)
    if form in ("image", "palette"):
        mask.save(tmp_path / "labels.png")
        np.testing.assert_array_equal(inside(f"label:{value}:{tmp_path / 'labels.png'}"), levels == value)
        row = Region.from_json({"mask": "labels.png", "value": value}, H, W, tmp_path)
        np.testing.assert_array_equal(row.to_mask(), levels == value)


def test_colours_are_named_by_their_numbers() -> None:
    pixels = np.zeros((H, W, 3), np.uint8)
    pixels[MASK], pixels[OTHER] = (255, 0, 0), (0, 0, 255)
    for mask in (pixels, Image.fromarray(pixels), Image.fromarray(pixels).convert("P")):
        np.testing.assert_array_equal(inside(mask, value="#ff0000"), MASK & ~OTHER)
    with pytest.raises(DataError, match=r'3 colours .*#0000ff.*"value": "#ff0000"'):
        inside(pixels)
    with pytest.raises(DataError, match="no pixel of the mask has the value #00ff00; it holds #000000"):
        inside(pixels, value="#00ff00")


@pytest.mark.parametrize("value", ["red", "#ff", 1.0, True, [1], "3"])
def test_values_of_another_kind_are_refused(value: Any) -> None:
    with pytest.raises(DataError, match="value"):
        inside(GREY, value=value)


PHOTO = Image.fromarray(np.random.default_rng(0).integers(40, 220, (H, W, 3)).astype(np.uint8))
AMBIGUOUS: dict[str, tuple[Any, str]] = {
    "a photo": (PHOTO, "colours|so it is an image or a map"),
    "a grey photo": (PHOTO.convert("L"), "so it is an image or a map"),
    "a depth map": (np.linspace(0, 9000, H * W).reshape(H, W).astype(np.uint16), "so it is an image or a map"),
    "negative integers": (np.where(MASK, 0, -1), "negative values"),
    "activations": (np.where(MASK, 3.7, 0.2), "neither probabilities"),
    "faint probabilities": (PROBABILITIES / 2, "no pixel above 0.5"),
    "between probabilities and logits": (np.where(MASK, 0.9, np.where(XX > 100, 0.2, -0.2)), "threshold it first"),
    "a stack": (np.stack([MASK] * 3), "pass 3 masks as 3 regions"),
    "transparent everywhere": (Image.new("RGBA", (W, H), (255, 0, 0, 0)), "alpha is 0"),
    "alpha and colours": (Image.merge("RGBA", (*GREY.convert("RGB").split(), Image.fromarray((XX > 40).astype(np.uint8) * 255))), "alpha"),
    "red on white": (Image.composite(Image.new("RGB", (W, H), (255, 0, 0)), Image.new("RGB", (W, H), (255, 255, 255)), GREY), "2 colours"),
    "a file's name in JSON": ({"mask": "m.png"}, "is not opened here"),
    "a label that is a number": ({"mask": MASK, "label": 3}, "has a field 'label'"),
    "two forms": ({"mask": MASK, "box": [1, 2, 3, 4]}, "is several of"),
    "a bbox": ({"bbox": [1, 2, 30, 40]}, r"x, y, width, height: write \{\"box\""),
    "boxes": (np.array([[10.0, 20, 90, 80]] * 2), "2 boxes; pass each"),
    "ragged points": ({"polygon": [[1, 2, 3], [4]]}, "polygon"),
    "units that are a list": ({"box": [1, 2, 30, 40], "units": ["pixels"]}, "units are"),
    "a scalar": (np.float64(3), "a region is a"),
    "a detector's row": ([10, 20, 90, 80, 0.87, 0], "six numbers|not four numbers"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_does_not_say_what_is_inside_is_refused_in_words(name: str) -> None:
    value, words = AMBIGUOUS[name]
    with pytest.raises(DataError, match=words):
        inside(value)


def test_a_file_of_several_masks_is_refused(tmp_path: Path) -> None:
    for name in ("stack.gif", "stack.tif"):
        GREY.save(tmp_path / name, save_all=True, append_images=[GREY.transpose(Image.Transpose.ROTATE_180)])
        with pytest.raises(DataError, match=f"{name}: the file holds 2 frames"):
            Region.from_file(tmp_path / name)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, 2116) for name in ("palette2.png", "mask.gif", "jpeg75.jpg", "antialiased.png", "opaque_but_one.png", "overlay35.png")),
        *((name, "name the value inside") for name in ("two_objects.png", "void.png")),
    ],
)
def test_masks_as_programs_write_them(shared_path, name: str, expected: int | str) -> None:
    path = shared_path("samples/inputs/09-mask-pictures") / name
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            Region.from_file(path)
    else:
        assert Region.from_file(path).area == pytest.approx(expected, rel=0.02)


@pytest.mark.realdata
def test_masks_as_segmenters_give_them(shared_path) -> None:
    for name in ("logits", "probabilities"):
        assert Region.from_mask(np.load(shared_path("samples/inputs/08-soft-masks") / f"{name}.npy")).area == 2116
