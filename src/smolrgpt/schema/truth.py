"""Truth: annotations of the objects that a question is about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Truth:
    """Annotations of a question's objects besides the answer; R regions, in the order of ``Sample.regions``.

    Attributes:
        steps: The answer derived region by region, as text that precedes the normalised answer.
        centers_m: R centres of 3-D boxes in metres: two coordinates on the supporting plane and the height above it; empty if unknown.
        sizes_m: R sizes of 3-D boxes in metres: the longer side on the supporting plane, and the height, which is None for what has
            none (a marked area of the floor); empty if unknown.
    """

    steps: str | None = None
    centers_m: tuple[tuple[float, float, float], ...] = ()
    sizes_m: tuple[tuple[float, float | None], ...] = ()
