"""Which pixels of a mask array or mask image are inside: one set of rules for every program's masks.

| mask | inside |
|---|---|
| booleans, integers of one or two values | not 0 |
| integers or grey levels with soft edges | above half way between the two ends |
| float probabilities (0 to 1) | above 0.5 |
| float logits (some are negative) | above 0 |
| image with an alpha channel that varies | alpha above half its range |
| two colours | the one that is not dark |
| integers, grey levels, palette indices or colours of several objects | the value that the caller names, otherwise refused |

NaN is outside. Legend: H W height and width of the mask in pixels; levels: the values of a grey image or integer array.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from smolrgpt.schema.errors import DataError, brief
from smolrgpt.schema.image_file import to_rgba

#: A value of a label image: an integer (of palettes the index), or a colour as "#rrggbb".
LabelValue = int | str

#: Levels between which there is room for soft edges; masks with more than two values in a smaller range are labels.
_SOFT_SPAN = 32
#: A grey image with a larger share of pixels far from both of its ends is no mask.
_MAX_BETWEEN = 0.5
#: Up to so many different values each value is judged by itself, beyond it all together.
_FEW_VALUES = 16
#: Values that a message lists.
_LISTED = 12
#: Largest grey level of a colour that counts as background beside another colour.
_DARK = 48
#: How far an interpolated probability may lie outside of [0, 1]: bicubic interpolation overshoots by up to a quarter.
_OVERSHOOT = 0.25
#: Smallest range of an alpha channel that says something: less is what a converter or a stray pixel leaves.
_ALPHA_SPAN = 32


def inside_array(values: np.ndarray, label: LabelValue | None = None) -> np.ndarray:
    """Return bool (H, W): the inside of an (H, W) mask, also (1, H, W) or (H, W, 1); uint8 (H, W, 3 or 4) is read as an image.

    label: the value of one object. Raises DataError for other shapes and types, and for values that do not say what is inside.
    """
    values = _two_dimensional(values)
    if not values.size:
        return np.zeros(values.shape[:2], dtype=bool)
    if values.ndim == 3:
        return inside_image(Image.fromarray(np.ascontiguousarray(values)), label)
    if label is not None:
        return _inside_label(values, label)
    if values.dtype.kind == "b":
        return values
    return _inside_integers(values) if values.dtype.kind in "iu" else _inside_floats(values)


def inside_image(image: Image.Image, label: LabelValue | None = None) -> np.ndarray:
    """Return bool (H, W): the inside of a mask image of any mode.

    label: the value, palette index or colour ("#rrggbb") of one object. Raises DataError for an image that does not say what is inside.
    """
    if isinstance(label, str):
        return _inside_label(_packed(image), label)
    if label is not None:
        single = image if image.mode in ("1", "P", "I", "F") or image.mode.startswith("I;16") else _as_grey(image.convert("RGB"))
        if single is None:
            raise DataError(f"value {label} was asked for in a mask of several colours; {_name_colours(image)}")
        return _inside_label(np.asarray(single), label)
    if image.has_transparency_data:
        return _inside_transparent(to_rgba(image))
    if image.mode == "P":
        return _inside_palette(image)
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        return inside_array(np.asarray(image))
    return _inside_colours(image.convert("RGB"))


# ----------------------------------------------------------------------------------------------------------------------- arrays
def _two_dimensional(values: np.ndarray) -> np.ndarray:
    """Return (H, W), or an image's uint8 (H, W, 3 or 4), without axes of length 1."""
    shape, expected = values.shape, "expected a numeric or boolean array (H, W)"
    while values.ndim > 2 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.dtype.kind not in "biuf":
        raise DataError(f"mask is {values.dtype} {shape}; {expected}")
    is_image = values.ndim == 3 and values.dtype == np.uint8 and values.shape[2] in (3, 4)
    if values.ndim == 3 and not is_image:
        raise DataError(f"mask is {values.dtype} {shape}; {expected}; pass {values.shape[0]} masks as {values.shape[0]} regions")
    if values.ndim != 2 and not is_image:
        raise DataError(f"mask is {values.dtype} {shape}; {expected}")
    return values


def _inside_label(values: np.ndarray, label: LabelValue) -> np.ndarray:
    number = _colour_number(label) if isinstance(label, str) else label
    inside = np.asarray(values == number)
    if not inside.any():
        found = _unique(values)
        listed = _list(found) if isinstance(label, int) else ", ".join(f"#{value:06x}" for value in found[:_LISTED])
        raise DataError(f"no pixel of the mask has the value {label}; it holds {listed}")
    return inside


def _colour_number(label: str) -> int:
    digits = label.removeprefix("#")
    try:
        if len(digits) != 6:
            raise ValueError
        return int(digits, 16)
    except ValueError:
        raise DataError(f"value {brief(label)!r} of a mask is no integer and no colour; expected a number such as 3, or #rrggbb") from None


def _inside_floats(values: np.ndarray) -> np.ndarray:
    measured = values[~np.isnan(values)]
    if not measured.size:
        return np.zeros(values.shape, dtype=bool)
    low, high = float(measured.min()), float(measured.max())
    if low >= 0 and high <= 1 + _OVERSHOOT:
        if 0 < high <= 0.5:
            raise DataError(f"a float mask of values up to {high:.3g} has no pixel above 0.5; threshold it first, at a value of your own")
        return values > 0.5
    if low < 0:
        inside, by_half = values > 0, values > 0.5
        # an interpolated probability undershoots 0, and a logit may be small
        if low >= -_OVERSHOOT and 0.5 < high <= 1 + _OVERSHOOT and inside.sum() > 1.02 * by_half.sum():
            if np.isclose(measured, np.rint(measured), atol=0.05).mean() < 0.9:  # those of a mask are mostly 0 or 1
                raise DataError(f"a float mask from {low:.3g} to {high:.3g} may hold probabilities or logits; threshold it first")
            return by_half
        return inside
    if np.isfinite(high) and (measured == np.rint(measured)).all():
        return _inside_integers(np.nan_to_num(values).astype(np.int64))
    if _SOFT_SPAN <= high <= 255:  # grey levels of a soft mask as floats
        return _inside_integers(np.rint(np.nan_to_num(values)).astype(np.int64))
    raise DataError(f"a float mask from {low:.3g} to {high:.3g} holds neither probabilities (0 to 1) nor logits; threshold it first")


def _inside_integers(levels: np.ndarray) -> np.ndarray:
    """Return the inside of an integer mask (H, W): not 0, or above half way between its ends where its edges are soft."""
    values = _unique(levels)
    low, high = int(values[0]), int(values[-1])
    if low < 0:
        raise DataError(f"an integer mask holds negative values ({_list(values)}); {_ADVICE}")
    if len(values) == 1 or (len(values) == 2 and low == 0):
        return np.asarray(levels != 0)
    if high - low < _SOFT_SPAN or _holds_labels(levels, values):
        raise DataError(f"the mask holds the values {_list(values)}: it may mark several objects; {_ADVICE}")
    between = (levels > low + (high - low) / 8) & (levels < high - (high - low) / 8)
    if (share := between.mean()) > _MAX_BETWEEN:
        raise DataError(f"{share:.0%} of the mask's pixels lie between black and white, so it is an image or a map; threshold it first")
    return levels > (low + high) / 2


_ADVICE = 'name the value inside, as {"mask": ..., "value": 1} or label:1:FILE'


def _list(values: np.ndarray) -> str:
    listed = ", ".join(str(value) for value in values[:_LISTED])
    return listed if len(values) <= _LISTED else f"{listed}, ... up to {values[-1]} ({len(values)} values)"


def _unique(values: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.bincount(values.ravel(), minlength=256)) if values.dtype == np.uint8 else np.unique(values)


def _holds_labels(levels: np.ndarray, values: np.ndarray) -> bool:
    """Return whether values between the two ends fill areas of their own, as objects do, and are not slopes between the ends.

    A slope's pixel has a higher and a lower one nearby. Values close to an end are judged by flat areas instead: noise of JPEG has hills,
    too. Up to ``_FEW_VALUES`` each value counts; more than that are noise or shades, and most of their pixels have to fill areas.
    """
    from scipy import ndimage

    is_few, low, high = len(values) <= _FEW_VALUES, int(values[0]), int(values[-1])
    eighth = (high - low) / 8
    if not is_few:  # JPEG may move the ends themselves: the commonest value close to each is the end
        low, high = (_commonest(levels[near]) for near in (levels <= low + eighth, levels >= high - eighth))
    slopes = (levels > low) & (levels < high)
    if not slopes.any():
        return False
    flat = ndimage.maximum_filter(levels, size=3 if is_few else 5) == ndimage.minimum_filter(levels, size=3 if is_few else 5)
    hills = (ndimage.maximum_filter(levels, size=5) == levels) | (ndimage.minimum_filter(levels, size=5) == levels)
    is_close = (levels < low + eighth) | (levels > high - eighth)
    areas = slopes & np.where(is_close, flat, hills)
    if not is_few:
        return bool(areas.sum() > 0.5 * slopes.sum())
    for value in values[(values > low) & (values < high)]:
        pixels = levels == value
        found = areas[pixels].sum()
        if found >= 9 and found > (0.1 if is_close[pixels][0] else 0.5) * pixels.sum():
            return True
    return False


def _commonest(levels: np.ndarray) -> int:
    values, counts = np.unique(levels, return_counts=True)
    return int(values[counts.argmax()])


# ----------------------------------------------------------------------------------------------------------------------- images
def _inside_palette(image: Image.Image) -> np.ndarray:
    """Return the inside of a palette image: its colours decide, since programs number them in any order."""
    indices, colours = np.asarray(image), image.convert("RGB")
    if np.ptp(np.asarray(colours), axis=(0, 1)).max() == 0:  # no palette worth the name: the indices are the mask
        return _inside_integers(indices)
    try:
        return _inside_colours(colours)
    except DataError as error:
        used = _list(_unique(indices))
        raise DataError(f"the mask has a palette, and its indices {used} may mark several objects; {_ADVICE}") from error


def _inside_colours(image: Image.Image) -> np.ndarray:
    """Return the inside of an RGB mask: of one colour, in any shades, on black."""
    from scipy import ndimage

    grey = _as_grey(image)
    if grey is not None:
        return _inside_integers(np.asarray(grey))
    pixels = np.asarray(image).astype(np.int16)
    levels = pixels.max(axis=-1)
    colours = np.unique(_packed(image))
    if len(colours) == 2:
        darker, brighter = sorted((colour for colour in colours), key=_luminance)
        if _luminance(darker) <= _DARK:
            return np.asarray(_packed(image) == brighter)
    if levels.min() > _DARK:
        raise DataError(_name_colours(image))
    bright = pixels[levels > (int(levels.min()) + int(levels.max())) / 2]
    hue = np.median(bright / bright.max(axis=-1, keepdims=True), axis=0)
    is_other = (np.abs(pixels - levels[..., None] * hue) > 0.25 * levels[..., None]).any(axis=-1) & (levels > levels.max() / 4)
    # JPEG smears colours over a few pixels along edges; what is larger is another colour
    if ndimage.minimum_filter(is_other, size=5, mode="constant", cval=1).sum() >= 9:
        raise DataError(_name_colours(image))
    return _inside_integers(levels)


def _name_colours(image: Image.Image) -> str:
    colours, counts = np.unique(_packed(image), return_counts=True)
    listed = ", ".join(f"#{colours[i]:06x}" for i in np.argsort(-counts, kind="stable")[:_LISTED])
    return f'the mask holds {len(colours)} colours ({listed}): name the colour inside, as {{"mask": ..., "value": "#ff0000"}}'


def _as_grey(image: Image.Image) -> Image.Image | None:
    """Return an RGB image as grey levels, None where its channels differ by more than the rounding of JPEG."""
    pixels = np.asarray(image).astype(np.int16)
    return image.getchannel("G") if np.ptp(pixels, axis=-1).max() <= 8 else None


def _packed(image: Image.Image) -> np.ndarray:
    """Return int64 (H, W): each pixel's colour as 0xrrggbb."""
    packed: np.ndarray = np.asarray(image.convert("RGB"), dtype=np.int64) @ (65536, 256, 1)
    return packed


def _luminance(colour: int) -> float:
    return 0.299 * (colour >> 16) + 0.587 * (colour >> 8 & 255) + 0.114 * (colour & 255)


def _inside_transparent(image: Image.Image) -> np.ndarray:
    """Return the inside of an RGBA mask: what is more opaque than half the range of alpha, or where that says nothing, the colours."""
    alpha, colours = np.asarray(image)[..., 3], image.convert("RGB")
    low, high = int(alpha.min()), int(alpha.max())
    if high == 0:
        raise DataError("the mask is transparent everywhere (alpha is 0), although it may hold colours; save it without alpha")
    opaque = alpha > (low + high) / 2
    if high - low < _ALPHA_SPAN and (high == low or np.ptp(np.asarray(colours), axis=(0, 1)).max() > 0):
        return inside_image(colours)
    luminance = np.asarray(colours.convert("L"))
    if not _has_two_levels(luminance[opaque]):
        return opaque
    if (~opaque).mean() < 0.01:
        return inside_image(colours)
    raise DataError(
        "the mask has an alpha channel and, where it is opaque, black and white as well, so it does not say what is inside; "
        "save it without alpha, or with alpha alone"
    )


def _has_two_levels(levels: np.ndarray) -> bool:
    """Return whether grey levels (N,) lie at two ends that are far apart, as those of a mask do, with few between."""
    low, high = int(levels.min()), int(levels.max())
    dark, bright = (levels <= low + (high - low) / 4).mean(), (levels >= high - (high - low) / 4).mean()
    return bool(high - low >= 128 and min(dark, bright) >= 0.005 and dark + bright > 0.95)
