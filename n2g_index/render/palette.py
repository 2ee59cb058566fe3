"""Which colour has a node, and which text can be read on it?

The colours are the paper's: activating nodes red by activation, context nodes blue by importance.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from n2g_index.graph.condensed import GraphNodeKind

_Colour = tuple[int, int, int]

_REDS = ((255, 245, 240), (254, 219, 204), (252, 174, 147), (246, 116, 90), (224, 52, 48), (176, 16, 32))
_BLUES = ((242, 247, 254), (207, 225, 245), (160, 199, 236), (97, 158, 218), (38, 109, 190), (14, 70, 148))

FOLD = "#c3c9d2"
"""Fill of a box that stands for several nodes."""

_INKS = ("#15181d", "#ffffff", "#000000")  # on any fill, white or black has a contrast of 4.58 or more
_ENOUGH = 4.5  # contrast that WCAG 2 asks of normal text (level AA)


def fill(kind: GraphNodeKind, strength: float) -> str:
    """The fill of a node: the stronger, the more saturated."""
    share = min(max(strength, 0.0), 1.0) if math.isfinite(strength) else 0.0
    # Squared, since nearly all nodes have an activation above 0.5 or an importance above 0.75.
    return _between(_REDS if kind == "activating" else _BLUES, share * share)


def ink(background: str) -> str:
    """The colour of text on a fill, with a contrast of at least 4.5:1."""
    return next(colour for colour in _INKS if contrast(colour, background) >= _ENOUGH)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours `#rrggbb` as WCAG 2 defines it."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def number(value: float) -> str:
    """A share in three characters: `.87`, `1.0`."""
    text = f"{value:.2f}"
    if text.startswith(("0.", "-0.")):
        return text.replace("0", "", 1).replace("-", "−")
    return f"{value:.1f}".replace("-", "−")


def _between(stops: Sequence[_Colour], share: float) -> str:
    at = share * (len(stops) - 1)
    below = min(int(at), len(stops) - 2)
    mixed = (round(a + (b - a) * (at - below)) for a, b in zip(stops[below], stops[below + 1], strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _luminance(colour: str) -> float:
    red, green, blue = (_linear(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return float(channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4)
