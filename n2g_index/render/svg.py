"""What does a neuron graph look like as a picture that stands on its own?

Activating nodes are red by activation, context nodes blue by importance, end nodes have a bold outline;
shape, outline and a printed number say the same without colour. The picture has no scripts, no links and
no ids (so that many fit into one page), and follows the reader's light or dark theme. Linear in the number
of boxes and curves.
"""

from __future__ import annotations

import html
import math
import re
from typing import TYPE_CHECKING

from n2g_index.graph.labels import columns, shorten, visible
from n2g_index.render.layout import (
    CHAR,
    CORE_ROOM,
    FONT_SIZE,
    PAD,
    Box,
    Curve,
    Drawing,
    layout,
    strength,
    token_text,
)
from n2g_index.render.palette import FOLD, fill, ink, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from n2g_index.graph.condensed import GraphNode, GraphNodeKind, NeuronGraph

_MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
_SANS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif"

_LIGHT = {
    "page": "#ffffff",
    "text": "#15181d",
    "soft": "#59626e",
    "edge": "#6d7682",
    "rule": "#b9c0ca",
    "end": "#15181d",
}
# What the classes say in the dark; without it (an old viewer, a strict page) the light colours stay.
_STYLE = (
    ".n2g-label{white-space:pre}@media (prefers-color-scheme:dark){"
    ".n2g-page{fill:#14171c}.n2g-text{fill:#eceff4}.n2g-soft{fill:#a3adba}"
    ".n2g-edge{stroke:#98a3b1}.n2g-rule{stroke:#4b5461}.n2g-end{stroke:#f5f7fa}}"
)

_MARGIN = 28.0
_LEAST_WIDTH = 560.0
_HEADER = 70.0
_SOFT_CHAR = 6.1  # average advance of the 11 px text of legend and names of components
_LEGEND_ROW = 22.0
_MOST_FOLDED = 40  # tokens named in the tooltip of a fold

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


def to_svg(graph: NeuronGraph, labels: Mapping[int, str], *, title: str, subtitle: str = "") -> str:
    """Draw a neuron graph as a self-contained SVG.

    Args:
        graph: the condensed graph.
        labels: token id -> exact text.
        title: heading, usually the neuron's name.
        subtitle: a line below it.
    """
    drawing = layout(graph, labels)
    width = max(drawing.width, _LEAST_WIDTH)
    y = _HEADER if subtitle else _HEADER - 20
    body = [_text(shorten(visible(title), int(width / 10)), _MARGIN, 38, "text", size=17, weight=650)]
    if subtitle:
        body.append(_text(shorten(visible(subtitle), int(width / 6.8)), _MARGIN, 58, "soft", size=12))
    if not graph.nodes:
        body.append(_text("no paths", _MARGIN, y + 22, "soft", size=13))
        return _document(width + 2 * _MARGIN, y + 50, title, graph, body)

    left = _MARGIN + (width - drawing.width) / 2
    if len(drawing.columns) > 1:
        body.append(_headings(drawing, left, y + 14))
        y += 20
    y += 16
    body.append(_bands(drawing, y, width))
    body.append(f'<g transform="translate({_n(left)} {_n(y)})">')
    body.extend(_curve(curve, drawing.boxes, labels) for curve in drawing.curves)
    body.extend(_box(box, labels) for box in drawing.boxes)
    body.append("</g>")
    legend, bottom = _legend(drawing, y + drawing.height + 44, width)
    return _document(width + 2 * _MARGIN, bottom + 18, title, graph, [*body, legend])


def _document(width: float, height: float, title: str, graph: NeuronGraph, body: Sequence[str]) -> str:
    size = f'width="{math.ceil(width)}" height="{math.ceil(height)}"'
    view = f'viewBox="0 0 {math.ceil(width)} {math.ceil(height)}"'
    n_context = sum(node.kind == "context" for node in graph.nodes)
    description = (
        f"Neuron graph in reading order, activating tokens at the right: "
        f"{len(graph.nodes) - n_context} activating, {n_context} context, {graph.n_components} components."
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} role="img">',
            f"<title>{_escape(title)}</title><desc>{_escape(description)}</desc><style>{_STYLE}</style>",
            f'<rect class="n2g-page" {size} fill="{_LIGHT["page"]}"/>',
            *body,
            "</svg>\n",
        ]
    )


def _headings(drawing: Drawing, left: float, y: float) -> str:
    return "".join(
        _text(
            f"context −{column.depth}" if column.depth else "activating",
            left + column.x + column.width / 2,
            y,
            "soft",
            anchor="middle",
        )
        for column in drawing.columns
    )


def _bands(drawing: Drawing, y: float, width: float) -> str:
    """The name of each band, and a dashed line beside it."""
    parts: list[str] = []
    for band in drawing.bands:
        if band.label:
            at = y + band.y + 4
            start = _MARGIN + len(band.label) * _SOFT_CHAR + 10
            parts.append(_text(band.label, _MARGIN, at + 4, "soft"))
            parts.append(
                f'<line class="n2g-rule" x1="{_n(start)}" y1="{_n(at)}" x2="{_n(_MARGIN + width)}" '
                f'y2="{_n(at)}" stroke="{_LIGHT["rule"]}" stroke-dasharray="4 4"/>'
            )
    return "".join(parts)


def _curve(curve: Curve, boxes: Sequence[Box], labels: Mapping[int, str]) -> str:
    bend = (curve.x1 + curve.x2) / 2
    points = (curve.x1, curve.y1, bend, curve.y1, bend, curve.y2, curve.x2, curve.y2)
    x1, y1, *rest = map(_n, points)
    names = " → ".join(
        visible(token_text(box.node.token_id, labels)) if box.node else box.label
        for box in (boxes[curve.start], boxes[curve.end])
    )
    return (
        f'<path class="n2g-edge" d="M{x1} {y1}C{" ".join(rest)}" fill="none" stroke="{_LIGHT["edge"]}" '
        f'stroke-opacity="{min(0.3 + curve.width / 5, 0.9):.2f}" stroke-width="{_n(curve.width)}">'
        f"<title>{_escape(f'{names}, seen {curve.support} times')}</title></path>"
    )


def _box(box: Box, labels: Mapping[int, str]) -> str:
    node = box.node
    middle = box.y + box.height / 2
    if node is None:
        names = [visible(token_text(one.token_id, labels)) for one in box.folded[:_MOST_FOLDED]]
        tooltip = "  ".join([*names, *["…"] * (len(box.folded) > _MOST_FOLDED)])
        rounded = box.folded[0].kind == "activating"
        shapes = _rect(box.x, box.y, box.width, box.height, FOLD, rounded=rounded, dashed=True)
        texts = _text(box.label, box.x + box.width / 2, middle + 4, ink(FOLD), size=12, anchor="middle")
        return f"<g><title>{_escape(tooltip)}</title>{shapes}{texts}</g>"
    background = fill(node.kind, strength(node))
    colour = ink(background)
    rounded = node.kind == "activating"
    shapes = _rect(box.x, box.y, box.width, box.height, background, rounded=rounded, end=node.is_end)
    texts = _text(box.label, box.x + PAD, middle + 4.5, colour, size=FONT_SIZE, mono=True)
    if node.is_core:
        x = box.x + PAD + columns(box.label) * CHAR + CORE_ROOM / 2
        texts += _text("◆", x, middle + 4, colour, size=10, anchor="middle")
    texts += _text(
        number(strength(node)), box.x + box.width - PAD + 3, middle + 4, colour, size=10.5, anchor="end"
    )
    return f"<g><title>{_escape(_tooltip(node, labels))}</title>{shapes}{texts}</g>"


def _tooltip(node: GraphNode, labels: Mapping[int, str]) -> str:
    lines = [
        repr(token_text(node.token_id, labels)),
        f"{node.kind}, token {node.token_id}, component {node.component + 1}",
        f"activation {node.activation:.3f}",
        f"importance {node.importance:.3f}",
    ]
    if node.is_end:
        lines.append("a path ends here")
    if node.is_core:
        lines.append("core token: on every path of its component, without firing itself")
    return "\n".join(lines)


def _legend(drawing: Drawing, y: float, width: float) -> tuple[str, float]:
    """The signs that this drawing has, in as many rows as they take; and where the last row ends."""
    nodes = [box.node for box in drawing.boxes if box.node]
    items = [(_scale("activating"), 97, "activating, by activation")]
    if len(drawing.columns) > 1:
        items.append((_scale("context"), 97, "context, by importance"))
    if any(node.is_end for node in nodes):
        items.append((_rect(2, -10, 22, 14, "#ffffff", end=True), 26, "a path ends here"))
    if any(node.is_core for node in nodes):
        items.append((_text("◆", 0, 1, "text"), 12, "core: on every path, never fires"))
    most = max(drawing.curves, key=lambda curve: curve.support, default=None)
    if most and most.support > 1:
        sign = (
            f'<path class="n2g-edge" d="M0 -3H26" stroke="{_LIGHT["edge"]}" stroke-width="{_n(most.width)}"/>'
        )
        items.append((sign, 26, f"seen {most.support} times"))
    if any(box.folded for box in drawing.boxes):
        items.append((_rect(0, -10, 26, 14, FOLD, dashed=True), 26, "tokens not drawn"))
    parts: list[str] = []
    x = 0.0
    for sign, room, meaning in items:
        taken = room + 8 + len(meaning) * _SOFT_CHAR
        if x and x + taken > width:
            x, y = 0.0, y + _LEGEND_ROW
        parts.append(_shift(sign + _text(meaning, room + 8, 1, "soft"), _MARGIN + x, y))
        x += taken + 22
    return "".join(parts), y + 8


def _scale(kind: GraphNodeKind) -> str:
    """A box of this kind, and its colours from 0.2 to 1."""
    steps = "".join(_rect(i * 13 + 19, -9, 13, 12, fill(kind, i / 5), border=False) for i in range(1, 6))
    return _rect(0, -10, 26, 14, fill(kind, 0.7), rounded=kind == "activating") + steps


def _shift(content: str, x: float, y: float = 0.0) -> str:
    return f'<g transform="translate({_n(x)} {_n(y)})">{content}</g>'


def _rect(
    x: float,
    y: float,
    width: float,
    height: float,
    colour: str,
    *,
    rounded: bool = False,
    end: bool = False,
    dashed: bool = False,
    border: bool = True,
) -> str:
    """A box; an end node gets a second, bold outline around the thin one, so that it shows on any theme."""
    radius = height / 2 if rounded else 3.0
    line = ' stroke="#15181d" stroke-opacity=".45"' if border else ""
    dashes = ' stroke-dasharray="3 3"' if dashed else ""
    outline = ""
    if end:
        outline = (
            f'<rect class="n2g-end" x="{_n(x - 1.5)}" y="{_n(y - 1.5)}" width="{_n(width + 3)}" '
            f'height="{_n(height + 3)}" rx="{_n(radius + 1.5)}" fill="none" stroke="{_LIGHT["end"]}" '
            f'stroke-width="2.5"/>'
        )
    corner = f' rx="{_n(radius)}"' if border else ""
    return (
        f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"{corner} '
        f'fill="{colour}"{line}{dashes}/>{outline}'
    )


def _text(
    content: str,
    x: float,
    y: float,
    colour: str,
    *,
    size: float = 11,
    anchor: str = "start",
    weight: int = 0,
    mono: bool = False,
) -> str:
    """Text that is kept from reordering its surroundings; `colour` is `#rrggbb` or a name of the theme."""
    themed = colour in _LIGHT
    classes = [f"n2g-{colour}"] * themed + ["n2g-label"] * mono
    attributes = [f'class="{" ".join(classes)}"'] * bool(classes)
    attributes += [f'x="{_n(x)}" y="{_n(y)}" fill="{_LIGHT[colour] if themed else colour}"']
    attributes += [f'font-family="{_MONO if mono else _SANS}" font-size="{_n(size)}"']
    attributes += [f'text-anchor="{anchor}"'] * (anchor != "start")
    attributes += [f'font-weight="{weight}"'] * bool(weight)
    attributes += ['xml:space="preserve"'] * mono
    return f'<text {" ".join(attributes)} direction="ltr" unicode-bidi="isolate">{_escape(content)}</text>'


def _escape(text: str) -> str:
    return html.escape(_ILLEGAL.sub("\ufffd", text))


def _n(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
