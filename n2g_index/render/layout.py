"""Where does each node of a neuron graph stand on the page?

One column per depth, the activating column rightmost, so that a path reads from left to right; components
one below the other. A column holds at most `max_rows` boxes per component, the rest shares one box.
Components of one token, of which a neuron can have hundreds, share a grid at the end. Deterministic; time
linear in nodes and edges apart from `arrange`, which sees only what is drawn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from n2g_index.graph.labels import columns, shorten, visible
from n2g_index.render.arrange import arrange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from n2g_index.graph.condensed import GraphEdge, GraphNode, NeuronGraph

FONT_SIZE = 13.0
ROW = 26.0
"""Height of a box."""

PAD = 13.0
"""Room between a box's side and its text; also the radius of the rounded ends."""

CORE_ROOM = 14.0
"""Room for the mark of a core token."""

NUMBER_ROOM = 27.0
"""Room for a box's number and the gap before it."""

MAX_LABEL = 28
"""Longest label in a box, in columns of text; the tooltip has the rest."""

CHAR = FONT_SIZE * 0.604
"""Advance of the common monospace fonts, rounded up."""
_PITCH = ROW + 10
_MIN_COLUMN = 86.0
_MIN_GAP, _MAX_GAP = 48.0, 140.0
_BAND_LABEL = 26.0  # from a band's top to its first box when the bands are labelled
_BAND_GAP = 26.0
_GRID_FROM = 3  # so many components of one token share a band
_GRID_GAP = 14.0
_GRID_COLUMNS = 4  # that many stand side by side even where the graph itself is narrower
_PORT = 3.5  # distance between the ends of curves at one side of a box


@dataclass(frozen=True, slots=True)
class Box:
    """A node, or the rest of a column."""

    x: float
    y: float
    width: float
    height: float
    label: str
    node: GraphNode | None
    """None for the box that stands for `folded`."""

    folded: tuple[GraphNode, ...] = ()
    """Nodes that did not fit into the column."""


@dataclass(frozen=True, slots=True)
class Curve:
    """An edge in reading order: from the earlier token to the one nearer the activating token."""

    start: int
    end: int
    """Positions in `Drawing.boxes`."""

    x1: float
    y1: float
    x2: float
    y2: float
    width: float
    support: int


@dataclass(frozen=True, slots=True)
class Band:
    """The stripe of a component, or of all components of one token."""

    y: float
    height: float
    label: str
    """Empty when there is only one band."""


@dataclass(frozen=True, slots=True)
class Column:
    """All boxes of one depth."""

    depth: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """A neuron graph placed on a plane whose origin is the top left corner."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    curves: tuple[Curve, ...]
    bands: tuple[Band, ...]
    columns: tuple[Column, ...]
    """By depth, so from right to left."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """What a box will show: one node, or the rest of a column."""

    nodes: tuple[GraphNode, ...]
    label: str
    is_fold: bool = False

    @property
    def width(self) -> float:
        text = 2 * PAD + columns(self.label) * CHAR
        return text if self.is_fold else text + NUMBER_ROOM + CORE_ROOM * self.nodes[0].is_core

    def at(self, x: float, y: float, width: float) -> Box:
        if self.is_fold:
            return Box(x, y, width, ROW, self.label, None, self.nodes)
        return Box(x, y, width, ROW, self.label, self.nodes[0])


def token_text(token_id: int, labels: Mapping[int, str]) -> str:
    """The token's exact text; its number where there is no text for it."""
    return labels.get(token_id, f"#{token_id}")


def layout(graph: NeuronGraph, labels: Mapping[int, str], *, max_rows: int = 30) -> Drawing:
    """Place a neuron graph.

    Args:
        graph: the condensed graph.
        labels: token id -> exact text.
        max_rows: most boxes per component and column, the one for the rest included.
    """
    connected, singles = _components(graph)
    cells: list[_Cell] = []
    parts: list[list[list[int]]] = []  # component -> depth -> positions in `cells`
    for component in connected:
        parts.append([])
        for nodes in component:
            new = _fold(nodes, max_rows, labels)
            parts[-1].append(list(range(len(cells), len(cells) + len(new))))
            cells.extend(new)
    links = _links(graph.edges, cells)
    inside: dict[int, list[tuple[int, int]]] = defaultdict(list)  # component number -> its links
    for link in links:
        inside[cells[link[0]].nodes[0].component].append(link)
    folds = {i for i, cell in enumerate(cells) if cell.is_fold}
    table, per_row = _table(cells, links, _fold(singles, len(singles), labels))

    boxes: list[Box] = []
    bands: list[Band] = []
    box_of: dict[int, int] = {}  # position in `cells` -> position in `boxes`
    label_room = _BAND_LABEL if len(parts) + bool(singles) > 1 else 0.0
    y = 0.0
    for component, levels in zip(connected, parts, strict=True):
        number = component[0][0].component
        ordered, rows = arrange(levels, inside[number], folds)
        for column, level in zip(table, ordered, strict=False):
            for i in level:
                box_of[i] = len(boxes)
                boxes.append(cells[i].at(column.x, y + label_room + rows[i] * _PITCH, column.width))
        height = label_room + (max(map(len, levels)) - 1) * _PITCH + ROW
        bands.append(Band(y, height, f"component {number + 1}" if label_room else ""))
        y += height + _BAND_GAP
    if singles:
        boxes += _grid(_fold(singles, per_row * max_rows, labels), table[0], per_row, y + label_room)
        height = boxes[-1].y + ROW - y
        bands.append(Band(y, height, f"{len(singles)} components of one token" if label_room else ""))
        y += height + _BAND_GAP
    return Drawing(
        width=table[0].x + table[0].width if table else 0.0,
        height=max(y - _BAND_GAP, 0.0),
        boxes=tuple(boxes),
        curves=_curves(boxes, {(box_of[a], box_of[b]): support for (a, b), support in links.items()}),
        bands=tuple(bands),
        columns=table,
    )


def _components(graph: NeuronGraph) -> tuple[list[list[list[GraphNode]]], list[GraphNode]]:
    """Component -> depth -> nodes, best first; and apart from them the components of one token, if many."""
    support: Counter[int] = Counter()
    for edge in graph.edges:
        support.update({edge.src: edge.support, edge.dst: edge.support})

    def rank(node: GraphNode) -> tuple[bool, int, float, int]:
        return (not node.is_core, -support[node.graph_node_id], -strength(node), node.graph_node_id)

    by_component: dict[int, list[GraphNode]] = defaultdict(list)
    for node in graph.nodes:
        by_component[node.component].append(node)
    components = [sorted(by_component[number], key=rank) for number in sorted(by_component)]
    singles = [nodes[0] for nodes in components if len(nodes) == 1]
    if len(singles) < _GRID_FROM:
        singles = []
    connected: list[list[list[GraphNode]]] = []
    for nodes in components:
        if len(nodes) > 1 or not singles:
            levels: dict[int, list[GraphNode]] = defaultdict(list)
            for node in nodes:
                levels[node.depth].append(node)
            connected.append([levels[depth] for depth in sorted(levels)])
    return connected, singles


def strength(node: GraphNode) -> float:
    """The number that a node is coloured by."""
    return node.importance if node.kind == "context" else node.activation


def _fold(nodes: Sequence[GraphNode], limit: int, labels: Mapping[int, str]) -> list[_Cell]:
    """At most `limit` cells for nodes that come best first."""
    kept = len(nodes) if len(nodes) <= limit else max(limit - 1, 0)
    cells = [
        _Cell((node,), shorten(visible(token_text(node.token_id, labels)), MAX_LABEL))
        for node in nodes[:kept]
    ]
    if kept < len(nodes):
        cells.append(_Cell(tuple(nodes[kept:]), f"+ {len(nodes) - kept} more", is_fold=True))
    return cells


def _links(edges: Iterable[GraphEdge], cells: Sequence[_Cell]) -> dict[tuple[int, int], int]:
    """(earlier cell, later cell) -> summed support."""
    cell_of = {node.graph_node_id: i for i, cell in enumerate(cells) for node in cell.nodes}
    links: Counter[tuple[int, int]] = Counter()
    for edge in edges:
        links[cell_of[edge.dst], cell_of[edge.src]] += edge.support
    return dict(links)


def _table(
    cells: Sequence[_Cell], links: Iterable[tuple[int, int]], singles: Sequence[_Cell]
) -> tuple[tuple[Column, ...], int]:
    """Columns wide enough for what they hold, and apart enough for the curves between them; and how many
    single tokens fit side by side."""
    widths: dict[int, float] = {}
    for cell in [*cells, *singles]:
        depth = cell.nodes[0].depth
        widths[depth] = max(widths.get(depth, _MIN_COLUMN), cell.width)
    crossing = Counter(cells[later].nodes[0].depth for _, later in links)
    lefts: dict[int, float] = {}
    right = 0.0
    for depth in sorted(widths, reverse=True):
        lefts[depth] = right + (min(_MIN_GAP + 1.5 * crossing[depth], _MAX_GAP) if lefts else 0.0)
        right = lefts[depth] + widths[depth]
    per_row, shift = 0, 0.0
    if singles:
        step = widths[0] + _GRID_GAP
        per_row = min(len(singles), max(_GRID_COLUMNS, int((right + _GRID_GAP) // step)))
        shift = max(per_row * step - _GRID_GAP - right, 0.0)
    return tuple(Column(depth, lefts[depth] + shift, widths[depth]) for depth in sorted(widths)), per_row


def _grid(cells: Iterable[_Cell], last: Column, per_row: int, top: float) -> list[Box]:
    """Rows of boxes as wide as the column that the grid ends with."""
    step = last.width + _GRID_GAP
    left = last.x - (per_row - 1) * step
    return [
        cell.at(left + i % per_row * step, top + i // per_row * _PITCH, last.width)
        for i, cell in enumerate(cells)
    ]


def _curves(boxes: Sequence[Box], links: Mapping[tuple[int, int], int]) -> tuple[Curve, ...]:
    """Curves whose ends stand apart at a box's side, in the order of the boxes at their other end."""
    leaving: dict[int, list[int]] = defaultdict(list)
    arriving: dict[int, list[int]] = defaultdict(list)
    for a, b in links:
        leaving[a].append(b)
        arriving[b].append(a)

    def port(box: int, other: int, others: list[int]) -> float:
        place = sorted(others, key=lambda i: (boxes[i].y, i)).index(other) - (len(others) - 1) / 2
        step = min(_PORT, (ROW - 8) / len(others))
        return boxes[box].y + ROW / 2 + place * step

    most = max(links.values(), default=1)
    return tuple(
        Curve(
            start=a,
            end=b,
            x1=boxes[a].x + boxes[a].width,
            y1=port(a, b, leaving[a]),
            x2=boxes[b].x,
            y2=port(b, a, arriving[b]),
            width=1.3 + 3.2 * ((support - 1) / max(most - 1, 4)) ** 0.5,
            support=support,
        )
        for (a, b), support in sorted(links.items())
    )
