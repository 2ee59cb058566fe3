"""Does `search` find exactly the neurons that hold a token, in the promised order?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import get_args

import pytest

import n2g_index
from n2g_index.config import neuron_name
from n2g_index.errors import BadParameter, TokenNotFound
from n2g_index.graph.labels import fold, path_text
from n2g_index.graph.paths import IGNORE, Trace
from n2g_index.index import Index
from n2g_index.query.results import Results
from n2g_index.query.search import SearchHit
from n2g_index.store.fulltext import Role
from tests.making import Place, reading, trace, write_index

ROLES: tuple[Role, ...] = get_args(Role)


def opened(
    folder: Path,
    neurons: Mapping[Place, Sequence[Trace]],
    vocabulary: Sequence[str],
    *,
    f1: Mapping[Place, float] | None = None,
    max_activation: Mapping[Place, float] | None = None,
) -> Index:
    return n2g_index.open(
        write_index(folder / "toy.n2g", neurons, vocabulary, f1=f1, max_activation=max_activation)
    )


# a small index that is read with the eyes

WORDS = [" import", "import", "Import ", "from", " as", " never"]

SMALL: dict[Place, list[Trace]] = {
    (0, 0): [
        reading(WORDS, "from", None, " import", activation=0.75),
        reading(WORDS, " import", activation=0.5),
    ],
    (0, 1): [reading(WORDS, " import", " as")],
    (1, 0): [reading(WORDS, "Import ", " as"), reading(WORDS, "import")],
    (1, 1): [reading(WORDS, "import", " as")],
    (1, 2): [reading(WORDS, " import", " import")],  # both roles
    (2, 0): [reading(WORDS, "from", " import")],
    (2, 1): [reading(WORDS, "from", " import"), reading(WORDS, " import", None, "from", activation=0.5)],
    (2, 2): [reading(WORDS, "from")],
}
F1 = {(0, 0): 0.5, (0, 1): 1.0, (1, 0): 1.0, (1, 2): 0.25, (2, 0): 0.5}
MAX_ACTIVATION = {(0, 0): 1.0, (2, 0): 3.0, (2, 1): 9.0}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("small")
    with opened(folder, SMALL, WORDS, f1=F1, max_activation=MAX_ACTIVATION) as index:
        yield index


def order(hits: Results[SearchHit]) -> list[tuple[str, str, str]]:
    return [(hit.neuron, hit.match, hit.role) for hit in hits]


def test_hits_are_whole(small: Index) -> None:
    assert small.search(" import", limit=2) == Results(
        (
            SearchHit("L2N0", 2, 0, "activating", "exact", 0.5, 1.0, 1.0, 3.0, "from [␣import]"),
            SearchHit("L0N0", 0, 0, "activating", "exact", 0.5, 1.0, 0.75, 1.0, "from * [␣import]"),
        ),
        SearchHit,
        7,
    )


def test_ranking(small: Index) -> None:
    """Exact before folded, activating before context, then F1 x share, then activation; each neuron once."""
    assert order(small.search(" import")) == [
        ("L2N0", "exact", "activating"),  # F1 0.5, activation 3
        ("L0N0", "exact", "activating"),  # F1 0.5, activation 1
        ("L1N2", "exact", "activating"),  # F1 0.25
        ("L2N1", "exact", "activating"),  # no score; context as well
        ("L0N1", "exact", "context"),  # F1 1.0
        ("L1N0", "folded", "activating"),  # F1 1.0
        ("L1N1", "folded", "context"),
    ]


def test_a_graph_about_the_token_beats_a_better_one_that_met_it_by_the_way(tmp_path: Path) -> None:
    neurons = {
        (0, 0): [trace(0), trace(1), trace(1), trace(1, 2)],
        (0, 1): [trace(0), trace(0, 1)],
        (0, 2): [trace(0), trace(0, 1), trace(2)],
    }
    f1 = {(0, 0): 1.0, (0, 1): 0.5, (0, 2): 0.625}
    with opened(tmp_path, neurons, ["a", "b", "c"], f1=f1) as index:
        assert [(hit.neuron, hit.f1, hit.share) for hit in index.search("a")] == [
            ("L0N1", 0.5, 1.0),
            ("L0N2", 0.625, 2 / 3),
            ("L0N0", 1.0, 0.25),
        ]


def test_the_exact_token_decides_which_match_is_exact(small: Index) -> None:
    assert order(small.search("import")) == [
        ("L1N0", "exact", "activating"),
        ("L1N1", "exact", "context"),
        ("L2N0", "folded", "activating"),
        ("L0N0", "folded", "activating"),
        ("L1N2", "folded", "activating"),
        ("L2N1", "folded", "activating"),
        ("L0N1", "folded", "context"),
    ]


def test_a_text_that_is_a_token_only_when_folded(small: Index) -> None:
    assert {hit.match for hit in small.search("IMPORT")} == {"folded"}
    assert small.search("IMPORT").total == 7


def test_role(small: Index) -> None:
    assert order(small.search(" import", role="context")) == [
        ("L0N1", "exact", "context"),
        ("L1N2", "exact", "context"),
        ("L2N1", "exact", "context"),
        ("L1N0", "folded", "context"),
        ("L1N1", "folded", "context"),
    ]
    assert [hit.neuron for hit in small.search(" import", role="activating")] == [
        "L2N0", "L0N0", "L1N2", "L2N1", "L1N0",
    ]  # fmt: skip


def test_the_shown_path_has_the_token_in_the_role(small: Index) -> None:
    shown = {hit.neuron: (hit.path, hit.activation) for hit in small.search(" import", role="context")}
    assert shown == {
        "L0N1": ("␣import [␣as]", 1.0),
        "L1N2": ("␣import [␣import]", 1.0),
        "L2N1": ("␣import * [from]", 0.5),  # not the stronger from [␣import]
        "L1N0": ("Import␣ [␣as]", 1.0),
        "L1N1": ("import [␣as]", 1.0),
    }


def test_layers(small: Index) -> None:
    assert [hit.neuron for hit in small.search(" import", layers=[0, 2])] == ["L2N0", "L0N0", "L2N1", "L0N1"]
    assert small.search(" import", layers=[7]) == Results((), SearchHit, 0)
    assert small.search(" import", layers=[]) == Results((), SearchHit, 0)


def test_min_f1_includes_the_bound(small: Index) -> None:
    assert [hit.neuron for hit in small.search(" import", min_f1=0.5)] == ["L2N0", "L0N0", "L0N1", "L1N0"]
    assert [hit.neuron for hit in small.search(" import", min_f1=0.501)] == ["L0N1", "L1N0"]
    assert small.search(" import", min_f1=0.0).total == 7


def test_filters_combine(small: Index) -> None:
    hits = small.search(" import", role="activating", layers=[0, 1], min_f1=0.5)
    assert order(hits) == [("L0N0", "exact", "activating"), ("L1N0", "folded", "activating")]


def test_a_token_in_no_graph_gives_nothing(small: Index) -> None:
    assert small.search(" never") == Results((), SearchHit, 0)
    assert small.search(" never").df().columns.tolist() == list(small.search("from").columns)


@pytest.mark.parametrize("limit", range(1, 9))
def test_pages_put_together_are_the_whole(small: Index, limit: int) -> None:
    whole = small.search(" import", limit=100)
    pages = [small.search(" import", limit=limit, offset=at) for at in range(0, 10, limit)]
    assert [hit for page in pages for hit in page] == list(whole)
    assert {page.total for page in pages} == {whole.total} == {7}


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (-1, 0), (1, -1)])
def test_pages_that_make_no_sense(small: Index, limit: int, offset: int) -> None:
    with pytest.raises(BadParameter) as caught:
        small.search(" import", limit=limit, offset=offset)
    assert str(caught.value) == (f"limit must be at least 1 and offset at least 0, not {limit} and {offset}.")


@pytest.mark.parametrize(
    ("text", "suggestions"),
    [
        ("imprt", ("import", " import", "Import ", " as", "from")),
        (" ass", (" as", "from", " never", " import", "import")),
        ("imp", ("import", " import", "Import ", " as", "from")),
    ],
)
def test_a_token_that_is_not_there_gets_suggestions(
    small: Index, text: str, suggestions: tuple[str, ...]
) -> None:
    with pytest.raises(TokenNotFound) as caught:
        small.search(text)
    assert caught.value.suggestions == suggestions
    near = ", ".join(map(repr, suggestions))
    assert str(caught.value) == (
        f"{text!r} is not a token of this index's vocabulary; the closest are {near}."
    )


def test_no_suggestions_from_an_empty_vocabulary(tmp_path: Path) -> None:
    with opened(tmp_path, {}, []) as index, pytest.raises(TokenNotFound) as caught:
        index.search("x")
    assert str(caught.value) == (
        "'x' is not a token of this index's vocabulary; nothing in the vocabulary is close to it."
    )


def test_of_equal_paths_the_better_supported_is_shown(tmp_path: Path) -> None:
    traces = [trace(0, 1), trace(0, 2), trace(0, 2), trace(0, 3)]
    with opened(tmp_path, {(0, 0): traces}, ["a", "b", "c", "d"]) as index:
        (hit,) = index.search("a")
    assert hit.path == "c [a]"


# odd tokens

ODD = [
    " ", "  ", "\n", "\n\n", "\t", "\r\n", "a b", " a  b ", '"', "'", '"q"', "it's", "%", "100%", "%20", "*",
    "\\", "</script>", "<b>", "&amp;", "a:b", "+x", "-x", "NOT", "AND", "a AND b", "(", ")", "[x]", "x*", "?",
    "~", "^", "\x00", "\x1b[31m", "日本", "é", "e\u0301", "İ", "ß", "\u200b", "\ufffd", "🙂", ";", "$1", "_",
    "drop table", "x" * 3000,
]  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Neuron i fires on odd token i, after the token before it."""
    neurons = {(i // 8, i % 8): [trace(i, IGNORE, (i - 1) % len(ODD))] for i in range(len(ODD))}
    with opened(tmp_path_factory.mktemp("odd"), neurons, ODD) as index:
        yield index


@pytest.mark.parametrize("at", range(len(ODD)), ids=[ascii(token)[:20] for token in ODD])
def test_odd_tokens_are_ordinary(odd: Index, at: int) -> None:
    token, before, after = ODD[at], (at - 1) % len(ODD), (at + 1) % len(ODD)
    exact = [hit for hit in odd.search(token) if hit.match == "exact"]
    assert [(hit.neuron, hit.role, hit.path) for hit in exact] == [
        (
            neuron_name(at // 8, at % 8),
            "activating",
            path_text([token, None, ODD[before]]),
        ),
        (
            neuron_name(after // 8, after % 8),
            "context",
            path_text([ODD[after], None, token]),
        ),
    ]
    folded = [hit for hit in odd.search(token) if hit.match == "folded"]
    same = {other for other in ODD if other != token and fold(token) and fold(other) == fold(token)}
    assert bool(folded) == bool(same)


# comparison with a plain scan

VOCABULARY = ["a", " a", "A", "A ", "b", " B", "c", " ", "\n"]


def label(token: int) -> str | None:
    return None if token == IGNORE else VOCABULARY[token]


def scan(
    neurons: Mapping[Place, Sequence[Trace]],
    f1: Mapping[Place, float],
    strongest: Mapping[Place, float],
    token: str,
    *,
    role: Role | None,
    layers: Sequence[int] | None,
    min_f1: float | None,
) -> list[SearchHit]:
    """What `search` promises, neuron by neuron and path by path."""
    ids = {
        "exact": [i for i, text in enumerate(VOCABULARY) if text == token],
        "folded": [i for i, text in enumerate(VOCABULARY) if fold(token) and fold(text) == fold(token)],
    }
    tiers = [(match, r) for match in ("exact", "folded") for r in ROLES if role in (None, r)]
    found: list[tuple[tuple[float, ...], SearchHit]] = []
    for place, traces in neurons.items():
        if layers is not None and place[0] not in layers:
            continue
        if min_f1 is not None and f1.get(place, 0.0) < min_f1:
            continue
        for number, (match, r) in enumerate(tiers):
            able = [
                t
                for t in traces
                if any(i in ids[match] for i in (t.tokens[:1] if r == "activating" else t.tokens[1:]))
            ]
            if able:
                same = {t: sum(u.tokens == t.tokens for u in traces) for t in able}
                texts = {
                    t: path_text([None if i == IGNORE else VOCABULARY[i] for i in t.tokens]) for t in able
                }
                best = min(able, key=lambda t: (-t.activation, -same[t], texts[t]))
                name, score, share = neuron_name(*place), f1.get(place), len(able) / len(traces)
                hit = SearchHit(
                    name, *place, r, "exact" if match == "exact" else "folded", score, share,
                    best.activation, strongest[place], texts[best],
                )  # fmt: skip
                found.append(((number, -(score or 0.0) * share, -strongest[place]), hit))
                break
    return [hit for _, hit in sorted(found, key=lambda pair: pair[0])]


@pytest.mark.parametrize("seed", range(3))
def test_search_equals_a_plain_scan(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    places = [(layer, i) for layer in range(3) for i in range(8)]
    neurons = {
        place: [
            trace(*tokens, activation=activation)  # equal tokens with equal activation, as merged
            for tokens, activation in {
                (
                    random.randrange(len(VOCABULARY)),
                    *(random.choice((IGNORE, random.randrange(len(VOCABULARY)))) for _ in range(n)),
                    *([random.randrange(len(VOCABULARY))] if n else []),
                ): random.choice((0.5, 0.75, 1.0))
                for n in random.choices(range(3), k=random.randint(1, 4))
            }.items()
            for _ in range(random.randint(1, 2))
        ]
        for place in places
    }
    f1 = {place: random.choice((0.25, 0.5, 0.75)) for place in places if random.random() < 0.7}
    strongest = {place: 1.0 + number / 16 for number, place in enumerate(random.sample(places, len(places)))}
    with opened(tmp_path, neurons, VOCABULARY, f1=f1, max_activation=strongest) as index:
        for token in VOCABULARY:
            for role in (None, *ROLES):
                for layers in (None, [1], [0, 2]):
                    for min_f1 in (None, 0.5):
                        expected = scan(
                            neurons, f1, strongest, token, role=role, layers=layers, min_f1=min_f1
                        )
                        got = index.search(token, role=role, layers=layers, min_f1=min_f1, limit=100)
                        assert list(got) == expected
                        assert got.total == len(expected)
                        at = random.randrange(6)
                        page = index.search(
                            token, role=role, layers=layers, min_f1=min_f1, limit=3, offset=at
                        )
                        assert (list(page), page.total) == (expected[at : at + 3], len(expected))


def test_pages_agree_when_all_ranks_are_equal(tmp_path: Path) -> None:
    neurons = {(layer, i): [trace(0)] for layer in range(3) for i in range(100)}
    index = n2g_index.open(write_index(tmp_path / "toy.n2g", neurons, ["a"], d_mlp=100))
    with index:
        whole = index.search("a", limit=1000)
        pages = [index.search("a", limit=7, offset=at) for at in range(0, 300, 7)]
    assert [hit for page in pages for hit in page] == list(whole)
    assert {hit.neuron for hit in whole} == {neuron_name(*place) for place in neurons}
