"""Drawings: tokens, paths, pictures and terminal trees."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from itertools import combinations, count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from n2g_index.graph.condensed import NeuronGraph, condense
from n2g_index.graph.labels import columns, path_text, shorten, visible
from n2g_index.graph.paths import IGNORE, Trace
from n2g_index.graph.trie import Trie, build_trie
from n2g_index.render.arrange import arrange, crossings, spread
from n2g_index.render.layout import Drawing, layout
from n2g_index.render.palette import contrast, fill, ink, number
from n2g_index.render.svg import to_svg
from n2g_index.render.text import to_text

LEGEND = "● a path ends here (activation) · ×N observations · * any token"

Reading = tuple[Sequence[str | None], float]  # tokens in reading order, None for ignore; activation


def drawn(*paths: Reading) -> tuple[Trie, NeuronGraph, dict[int, str]]:
    """A trie, its graph, and its vocabulary."""
    ids: dict[str, int] = {}
    traces = []
    for reading, activation in paths:
        tokens = tuple(IGNORE if t is None else ids.setdefault(t, len(ids)) for t in reversed(reading))
        context = [0.8] * (len(tokens) - 1)
        traces.append(Trace(tokens, (1.0, *context), (activation, *(0.1 for _ in context)), activation))
    trie = build_trie(traces)
    return trie, condense(trie), {i: token for token, i in ids.items()}


def imports() -> tuple[Trie, NeuronGraph, dict[int, str]]:
    return drawn(
        *[(["from", None, " import"], 0.97)] * 3,
        (["\n\n", "from", None, " import"], 0.8),
        ([" lazy", None, None, None, " load", " import"], 0.6),
        ([" load", " import"], 0.7),
        ([" self"], 1.0),
    )


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


# labels


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "∅"),
        ("import", "import"),
        (" import", "␣import"),
        (" new york ", "␣new york␣"),
        ("    ", "␣␣␣␣"),
        (" " * 12, "␣×12"),
        ("\n" + " " * 8 + "return", "⏎␣×8return"),
        (" " * 12 + "3", "␣×12·3"),
        ("\r\n\t\tx", "␍⏎⇥⇥x"),
        ("a\nb", "a⏎b"),
        ("\x00\x1b[31m\x7f\x85", "␀␛[31m␡\\x85"),
        ("\ufffd", "\ufffd"),
        ("a\u200b\u202e\ufeff\ud800\uffff", "a\\u{200B}\\u{202E}\\u{FEFF}\\u{D800}\\u{FFFF}"),
        ("\u00a0x", "\\u{00A0}x"),
        ("\u0301", "◌\u0301"),
        ("日本語", "日本語"),
        (" العربية", "␣العربية"),
        ("*", "*"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_visible_leaves_nothing_that_a_page_or_terminal_would_act_on(text: str) -> None:
    shown = visible(text)
    assert shown.strip()
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown)


@pytest.mark.parametrize(
    ("text", "width", "cut"),
    [
        ("import", 6, "import"),
        ("import", 5, "im…rt"),
        ("import", 4, "im…t"),
        ("import", 1, "…"),
        ("import", 0, ""),
        ("日本語文字", 7, "日…字"),
        ("ae\u0301e\u0301e\u0301e", 3, "a…e"),
    ],
)
def test_shorten(text: str, width: int, cut: str) -> None:
    assert shorten(text, width) == cut


@given(st.text(), st.integers(0, 30))
def test_shorten_keeps_to_the_width(text: str, width: int) -> None:
    assert columns(shorten(text, width)) <= width


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([], ""),
        ([" import"], "[␣import]"),
        ([" import", None, "from"], "from * [␣import]"),
        ([" import", None, None, "from", "\n"], "⏎ from * * [␣import]"),
        ([")", None, "*"], "\\* * [)]"),
    ],
)
def test_path_text(labels: Sequence[str | None], text: str) -> None:
    assert path_text(labels) == text


# order and height


def test_arrange_removes_crossings() -> None:
    levels, links = [[0, 1, 2], [3, 4, 5]], [(0, 5), (1, 4), (2, 3)]
    ordered, rows = arrange(levels, links)
    assert ordered == [[0, 1, 2], [5, 4, 3]]
    assert rows == {0: 0, 5: 0, 1: 1, 4: 1, 2: 2, 3: 2}


def test_arrange_centres_a_node_and_keeps_folds_at_the_bottom() -> None:
    _, rows = arrange([[0], [1, 2, 3, 4]], [(1, 0), (2, 0), (3, 0)])
    assert rows[0] == pytest.approx(sum(rows[i] for i in (1, 2, 3)) / 3)
    ordered, _ = arrange([[0, 1, 2], [5, 3, 4]], [(0, 4), (1, 3), (2, 5)], last={4})
    assert ordered == [[1, 2, 0], [3, 5, 4]]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(6, 11)), max_size=20, unique=True))
def test_crossings_counts_pairs(links: list[tuple[int, int]]) -> None:
    around: dict[int, list[int]] = {}
    for a, b in links:
        around.setdefault(a, []).append(b)
    crossed = sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(links, 2))
    assert crossings([range(6), range(6, 12)], around) == crossed


@given(st.lists(st.floats(-50, 50), max_size=12), st.integers(0, 5))
def test_spread_keeps_order_distance_and_height(wanted: list[float], spare: int) -> None:
    rows = spread(wanted, len(wanted) + spare)
    assert all(b - a >= 1 - 1e-9 for a, b in pairwise(rows))
    assert all(-1e-9 <= row <= len(wanted) + spare - 1 + 1e-9 for row in rows)


# layout


def overlapping(drawing: Drawing) -> list[tuple[str, str]]:
    return [
        (a.label, b.label)
        for a, b in combinations(drawing.boxes, 2)
        if a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height
    ]


def test_every_node_of_a_small_graph_is_one_box_and_every_edge_one_curve() -> None:
    _, graph, labels = imports()
    drawing = layout(graph, labels)
    assert sorted(box.node.graph_node_id for box in drawing.boxes if box.node) == list(
        range(len(graph.nodes))
    )
    ids = [box.node.graph_node_id for box in drawing.boxes if box.node]
    assert sorted((ids[c.end], ids[c.start], c.support) for c in drawing.curves) == sorted(
        (edge.src, edge.dst, edge.support) for edge in graph.edges
    )
    assert not overlapping(drawing)


def test_reading_order_runs_from_left_to_right_and_components_from_top_to_bottom() -> None:
    _, graph, labels = imports()
    drawing = layout(graph, labels)
    assert all(drawing.boxes[c.start].x < drawing.boxes[c.end].x for c in drawing.curves)
    assert [column.depth for column in sorted(drawing.columns, key=lambda c: -c.x)] == [0, 1, 2]
    assert [band.label for band in drawing.bands] == ["component 1", "component 2"]
    for box in drawing.boxes:
        assert box.node is not None
        band = drawing.bands[box.node.component]
        assert band.y < box.y
        assert box.y + box.height <= band.y + band.height + 1e-6


def test_a_full_column_folds_its_weakest_nodes_and_merges_their_edges() -> None:
    _, graph, labels = drawn(*[([f"w{i}", "x"], 0.9) for i in range(47) for _ in range(1 + (i < 29))])
    drawing = layout(graph, labels)
    (fold,) = [box for box in drawing.boxes if box.folded]
    assert (fold.label, fold.node, len(fold.folded)) == ("+ 18 more", None, 18)
    assert {box.label for box in drawing.boxes} == {"x", "+ 18 more", *(f"w{i}" for i in range(29))}
    assert [c.support for c in drawing.curves if drawing.boxes[c.start] is fold] == [18]
    assert sum(c.support for c in drawing.curves) == 47 + 29


def test_a_column_that_just_fits_is_not_folded() -> None:
    _, graph, labels = drawn(*[([f"w{i}", "x"], 0.9) for i in range(30)])
    assert len(layout(graph, labels).boxes) == 31


def test_many_components_of_one_token_share_a_grid() -> None:
    _, graph, labels = drawn((["a", "b"], 0.9), *[([f"w{i}"], 0.5 + i / 40) for i in range(17)])
    drawing = layout(graph, labels)
    assert [band.label for band in drawing.bands] == ["component 1", "17 components of one token"]
    assert len(drawing.boxes) == 19
    assert not overlapping(drawing)
    assert min(box.x for box in drawing.boxes) >= 0
    assert layout(graph, labels, max_rows=2).boxes[-1].label == "+ 10 more"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4), max_size=40),
    st.integers(1, 6),
)
def test_boxes_never_overlap_and_hold_every_node_once(readings: list[list[str]], max_rows: int) -> None:
    _, graph, labels = drawn(*[(reading, 0.9) for reading in readings])
    drawing = layout(graph, labels, max_rows=max_rows)
    held = [node.graph_node_id for box in drawing.boxes for node in (box.folded or (box.node,)) if node]
    assert sorted(held) == [node.graph_node_id for node in graph.nodes]
    assert not overlapping(drawing)
    assert all(box.x >= 0 and box.x + box.width <= drawing.width + 1e-6 for box in drawing.boxes)
    assert all(box.y >= 0 and box.y + box.height <= drawing.height + 1e-6 for box in drawing.boxes)
    assert sum(c.support for c in drawing.curves) == sum(edge.support for edge in graph.edges)
    assert layout(graph, labels, max_rows=max_rows) == drawing


# colours


@given(st.sampled_from(["activating", "context"]), st.floats())
def test_text_is_readable_on_every_fill(kind: str, strength: float) -> None:
    background = fill("activating" if kind == "activating" else "context", strength)
    assert contrast(ink(background), background) >= 4.5


def test_stronger_nodes_are_darker() -> None:
    for fills in (
        [fill("activating", i / 20) for i in range(21)],
        [fill("context", i / 20) for i in range(21)],
    ):
        against_white = [contrast(colour, "#ffffff") for colour in fills]
        assert against_white == sorted(against_white)
        assert len(set(fills)) > 18


def test_numbers_take_three_characters() -> None:
    assert [number(x) for x in (0.874, 1.0, 0.996, 0.0, -0.25)] == [".87", "1.0", "1.0", ".00", "−.25"]


# svg


def test_a_small_picture_names_every_node_once_with_its_number() -> None:
    _, graph, labels = imports()
    svg = to_svg(graph, labels, title="L3N15", subtitle="F1 .83")
    shown = texts(svg)
    assert sorted(shown) == sorted(
        [
            *("L3N15", "F1 .83", "component 1", "component 2"),
            *("context −2", "context −1", "activating"),
            *("⏎⏎", ".80", "from", ".80", "␣load", ".80", "␣lazy", ".80"),
            *("␣import", ".97", "␣self", "1.0"),
            *("activating, by activation", "context, by importance", "a path ends here", "seen 4 times"),
        ]
    )
    titles = [node.text or "" for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "L3N15"
    assert (
        "'\\n\\n'\ncontext, token 2, component 1\nactivation 0.100\nimportance 0.800\na path ends here"
        in titles
    )
    assert "from → ␣import, seen 4 times" in titles


def test_core_tokens_are_marked() -> None:
    _, graph, labels = drawn((["a", "core", "x"], 0.9), (["b", "core", "y"], 0.6))
    assert [node.is_core for node in graph.nodes].count(True) == 1
    svg = to_svg(graph, labels, title="L0N0")
    assert texts(svg).count("◆") == 2  # the node and the legend
    assert "core token: on every path" in svg


def test_a_picture_stands_on_its_own() -> None:
    _, graph, labels = imports()
    svg = to_svg(graph, labels, title="L3N15")
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert {node.tag.partition("}")[2] for node in root.iter()} <= {
        *("svg", "title", "desc", "style", "g", "rect", "line", "path", "text")
    }
    assert not re.search(r"href|url\(|@import|\bid=|\bon[a-z]+=", svg)
    assert "prefers-color-scheme:dark" in svg


def test_right_to_left_tokens_stay_whole() -> None:
    _, graph, labels = drawn((["שלום", " العربية"], 0.9))
    svg = to_svg(graph, labels, title="L0N0")
    assert {"שלום", "␣العربية"} <= set(texts(svg))
    assert svg.count("<text ") == svg.count('direction="ltr" unicode-bidi="isolate"')


def test_no_paths() -> None:
    trie, graph, labels = drawn()
    assert texts(to_svg(graph, labels, title="L0N7")) == ["L0N7", "no paths"]
    assert layout(graph, labels).boxes == ()
    assert to_text(trie, labels, title="L0N7") == "L0N7\nno paths\n"


def test_a_token_without_text_is_shown_by_its_number() -> None:
    trie, graph, _ = drawn((["a", "b"], 0.9))
    assert {"#0", "#1"} <= set(texts(to_svg(graph, {}, title="t")))
    assert to_text(trie, {}, title="t").splitlines()[1] == "#0 ← #1 ×1 ● .90"


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40) | st.sampled_from(
    [
        *("</script><img src=x onerror=alert(1)>", "<script>alert(1)</script>", "\"'&<>]]>", "--><!--"),
        *("\x00\x0b\x1b[31m", "\ud800", "\udfff\ufffe\uffff", "\u202e\u2066", "\u0301"),
        *("{}%s", "&#0;", " " * 99, ""),
    ]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(ANY_TEXT, min_size=1, max_size=4), ANY_TEXT, ANY_TEXT)
def test_any_text_gives_well_formed_harmless_xml(tokens: list[str], title: str, subtitle: str) -> None:
    numbers = count()
    trie, graph, _ = drawn(([str(next(numbers)) for _ in tokens], 0.9), (["0"], 0.7), (["1"], 0.2))
    labels: Mapping[int, str] = dict(enumerate(tokens))
    svg = to_svg(graph, labels, title=title, subtitle=subtitle)
    svg.encode()
    root = ET.fromstring(svg)
    assert {node.tag.partition("}")[2] for node in root.iter()} <= {
        *("svg", "title", "desc", "style", "g", "rect", "line", "path", "text")
    }
    assert not re.search("<script|<img", svg, re.IGNORECASE)
    tree = to_text(trie, labels, title=title)
    tree.encode()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", tree)


# text


def test_text_tree() -> None:
    trie, _, labels = imports()
    assert to_text(trie, labels, title="L3N15").splitlines() == [
        "L3N15",
        "␣import ×6",
        "├─ * ← from ×4 ● .97 ← ⏎⏎ ×1 ● .80",
        "└─ ␣load ×2 ● .70 ← *×3 ← ␣lazy ×1 ● .60",
        "␣self ×1 ● 1.0",
        LEGEND,
    ]


def test_text_tree_forks_at_every_depth_and_ignores_have_no_lines() -> None:
    trie, _, labels = drawn(
        (["a", "b", "x"], 0.9),
        (["c", "b", "x"], 0.8),
        (["d", None, "x"], 0.7),
        (["e", None, None, "x"], 0.6),
        (["*", "x"], 0.5),
    )
    assert to_text(trie, labels, title="t").splitlines() == [
        "t",
        "x ×5",
        "├─ b ×2",
        "│  ├─ a ×1 ● .90",
        "│  └─ c ×1 ● .80",
        "├─ * ← d ×1 ● .70",
        "├─ *×2 ← e ×1 ● .60",
        "└─ \\* ×1 ● .50",
        LEGEND,
    ]


def test_text_tree_folds_what_has_least_support() -> None:
    trie, _, labels = drawn(
        *[([f"w{i}", "x"], 0.9) for i in range(20) for _ in range(20 - i)],
        *[([f"y{i}"], 0.9) for i in range(5)],
    )
    assert to_text(trie, labels, title="t", max_lines=8).splitlines() == [
        "t",
        "x ×210",
        "├─ w0 ×20 ● .90",
        "├─ w1 ×19 ● .90",
        "├─ w2 ×18 ● .90",
        "└─ … and 17 more branches",
        "… and 5 more branches",
        LEGEND,
    ]


def test_a_single_line_is_never_folded() -> None:
    trie, _, labels = drawn(*[([f"w{i}", "x"], 0.9) for i in range(4)])
    assert len(to_text(trie, labels, title="t", max_lines=7).splitlines()) == 7
    assert to_text(trie, labels, title="t", max_lines=6).splitlines()[-2] == "└─ … and 2 more branches"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4), min_size=1, max_size=40),
    st.integers(0, 30),
)
def test_folded_and_shown_lines_add_up(readings: list[list[str]], max_lines: int) -> None:
    trie, _, labels = drawn(*[(reading, 0.9) for reading in readings])
    everything = to_text(trie, labels, title="t", max_lines=10**6).splitlines()
    lines = to_text(trie, labels, title="t", max_lines=max_lines).splitlines()
    folds = [int(found[1]) for line in lines if (found := re.search(r"… and (\d+) more branch", line))]
    assert len(lines) - len(folds) + sum(folds) == len(everything)
    assert len(lines) <= max(max_lines, 3)
    assert set(lines) - set(everything) <= {line for line in lines if "… and" in line or line[0] in "├└│ "}


def test_colour_only_on_request() -> None:
    trie, _, labels = imports()
    plain = to_text(trie, labels, title="L3N15")
    coloured = to_text(trie, labels, title="L3N15", color=True)
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain
    assert "\x1b[31m␣import\x1b[0m" in coloured
    assert "\x1b[34mfrom\x1b[0m" in coloured
