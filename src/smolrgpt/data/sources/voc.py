"""A user's own images with Pascal VOC annotations: one XML file for each image, as LabelImg, Roboflow, CVAT and Label Studio write them.

    <root>/Annotations/*.xml and ImageSets/Main/<split>.txt, a name a line; or <split>/*.xml, annotations/*.xml or *.xml
    <root>/JPEGImages/, <split>/images/, images/<split>/, images/ or beside the XML files   the images
    <root>/questions_<split>.jsonl   see ``annotated``; an object's annotation id is its position among the objects, from 0

Boxes and polygons are read; rotated boxes are counted. A box is xmin, ymin, xmax, ymax in pixels. Programs disagree whether pixels count
from 0 or 1 and whether the end is inside; the numbers are taken as corners from 0, which is at most a pixel off.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.annotated import (
    UNNAMED,
    UNREAD_SHAPE,
    AnnotatedImage,
    AnnotatedObject,
    annotation_folder,
    iter_annotated,
)
from smolrgpt.data.sources.folders import ImageSet
from smolrgpt.data.sources.rows import UNUSABLE_ROW, image_shape
from smolrgpt.schema import DataError, Region, Sample, brief


def iter_voc(
    root: Path | str,
    split: str,
    *,
    skips: SkipLog,
    annotations: str | None = None,
    images: str | None = None,
    depths: str | None = None,
    max_pairs: int = 16,
) -> Iterator[Sample]:
    """Yield samples as of ``iter_annotated``, in order of the XML files' names.

    Args:
        root: The folder of the data set.
        split: The name in the paths above.
        skips: Counts files and objects that cannot be used.
        annotations: The folder of XML files relative to root, where it is none of those above.
        images: The folder of images relative to root, where it is none of those above.
        depths: The folder of depth maps relative to root, where it is none of <split>/depths and depths.
        max_pairs: Questions per image without a questions file; a random draw by the image's name where there are more pairs.

    Raises:
        DataError: When annotations or images do not exist.
    """
    root = Path(root)
    listed = _split_list(root, split)
    folder = annotations or ("Annotations" if listed else annotation_folder(root, split, _xml_files))
    paths = _xml_files(root / folder)
    if listed:
        try:
            names = [line.split()[0] for line in listed.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except UnicodeError as error:
            raise DataError(f"{listed}: it is no list of names ({error})") from error
        for name in sorted(set(names) - {path.stem for path in paths}):
            skips.add(UNUSABLE_ROW, f"{listed.name}: {brief(name)!r} has no file in {folder}")
        paths = [path for path in paths if path.stem in names]
    defaults = ["JPEGImages", f"{split}/images", f"images/{split}", "images", folder]
    files = ImageSet.of_split(root, split, images, depths, defaults)
    return iter_annotated(list(_read_files(paths, skips)), files, root / f"questions_{split}.jsonl", skips, max_pairs)


def _split_list(root: Path, split: str) -> Path | None:
    """Return the file that lists a split's names; None where the set has no lists. Raises DataError where it has those of other splits."""
    lists = [path for name in ("Main", "Segmentation", "Layout", "Action") for path in sorted(root.glob(f"ImageSets/{name}/*.txt"))]
    found = next((path for path in lists if path.stem == split), None)
    if lists and found is None:
        splits = ", ".join(dict.fromkeys(path.stem for path in lists if "_" not in path.stem))
        raise DataError(f"{root}: ImageSets has no split {split!r}; expected one of {brief(splits, 200)}")
    return found


def _xml_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.xml"))


def _read_files(paths: list[Path], skips: SkipLog) -> Iterator[AnnotatedImage]:
    for path in paths:
        try:
            top = parse(str(path)).getroot()
            name, size = (top.findtext("filename") or "").strip(), top.find("size")
            if top.tag != "annotation" or not name or size is None:
                raise DataError(f"its first element is {brief(top.tag)}; expected annotation with filename and size")
            height, width = image_shape({side: int(float(size.findtext(side) or 0)) for side in ("height", "width")}, "height", "width")
        except (ParseError, DefusedXmlException, ValueError, OSError) as error:  # DataError is a ValueError
            skips.add(UNUSABLE_ROW, f"{path.name}: {error}")
            continue
        image = AnnotatedImage(name, path.name)
        for number, entry in enumerate(top.findall("object")):
            outline = next((entry.find(tag) for tag in ("polygon", "bndbox") if entry.find(tag) is not None), None)
            if outline is None:
                found = ", ".join(child.tag for child in entry)
                skips.add(UNREAD_SHAPE, f"{path.name} object {number}: it has {brief(found)}; bndbox and polygon are read")
                continue
            make_region = functools.partial(_region, outline, (height, width))
            image.objects.append(AnnotatedObject(number, (entry.findtext("name") or UNNAMED).strip(), make_region))
        yield image


def _region(outline: Element, size: tuple[int, int], *_: object) -> Region:
    """Return the region of a bndbox, or of a polygon x1, y1, x2, y2, ... Raises DataError."""
    is_box = outline.tag == "bndbox"
    corners = ("xmin", "ymin", "xmax", "ymax")
    try:
        numbers = [float(outline.findtext(name) or "") for name in corners] if is_box else [float(child.text or "") for child in outline]
    except ValueError:
        raise DataError(f"its {outline.tag} has not the numbers {', '.join(corners if is_box else ('x1', 'y1', '...'))}") from None
    return Region.from_box(tuple(numbers), *size) if is_box else Region.from_polygon(numbers, *size)
