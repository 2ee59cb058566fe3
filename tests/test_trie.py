"""Does a trie hold exactly the prefixes of its paths, with what was observed on each?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from n2g_index.graph.paths import IGNORE, Path, Trace
from n2g_index.graph.trie import Trie, TrieNode, build_trie
from tests.making import trace

numbers = st.sampled_from((0.25, 0.5, 0.75, 1.0))


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    first, last = st.integers(0, 2), st.lists(st.integers(0, 2), max_size=1)
    middle, end = draw(st.lists(st.integers(IGNORE, 2), max_size=3)), draw(last)
    tokens = (draw(first), *(middle if end else []), *end)
    activation = draw(numbers)
    before = len(tokens) - 1
    importances = draw(st.lists(numbers, min_size=before, max_size=before))
    activations = draw(st.lists(numbers, min_size=before, max_size=before))
    return Trace(tokens, (1.0, *importances), (activation, *activations), activation)


def test_nodes_of_a_small_trie() -> None:
    trie = build_trie(
        [
            Trace((7, 5), (1.0, 0.75), (0.5, 0.125), 0.5),
            Trace((7, IGNORE, 3), (1.0, 0.25, 0.875), (0.75, 0.625, 0.0), 0.75),
            Trace((7, 5), (1.0, 1.0), (1.0, 0.0), 1.0),
            Trace((7,), (1.0,), (0.625,), 0.625),
            Trace((5, 7), (1.0, 0.875), (0.5, 0.25), 0.5),
        ]
    )
    assert trie == Trie(
        paths=(
            Path((5, 7), 0.5, 1),
            Path((7,), 0.625, 1),
            Path((7, IGNORE, 3), 0.75, 1),
            Path((7, 5), 1.0, 2),
        ),
        nodes=(
            TrieNode(0, None, 0, "activating", 5, 1.0, 0.5, False, None, 1),
            TrieNode(1, 0, 1, "context", 7, 0.875, 0.25, True, 0.5, 1),
            TrieNode(2, None, 0, "activating", 7, 1.0, 1.0, True, 0.625, 4),
            TrieNode(3, 2, 1, "ignore", IGNORE, 0.0, 0.0, False, None, 1),
            TrieNode(4, 3, 2, "context", 3, 0.875, 0.0, True, 0.75, 1),
            TrieNode(5, 2, 1, "context", 5, 1.0, 0.125, True, 1.0, 2),
        ),
    )
    assert trie.max_depth == 2


def test_an_empty_trie() -> None:
    trie = build_trie([])
    assert trie == Trie((), ())
    assert trie.max_depth == 0


def test_a_long_path_is_a_chain() -> None:
    trie = build_trie([trace(1, *[IGNORE] * 500, 2)])
    assert [node.parent_id for node in trie.nodes] == [None, *range(501)]
    assert trie.max_depth == 501


@given(st.lists(traces(), max_size=8).flatmap(lambda t: st.tuples(st.just(t), st.permutations(t))))
def test_the_order_of_observations_does_not_matter(both: tuple[list[Trace], list[Trace]]) -> None:
    assert build_trie(both[0]) == build_trie(both[1])


@given(st.lists(traces(), max_size=8))
def test_nodes_are_the_prefixes_with_their_facts(observed: list[Trace]) -> None:
    trie = build_trie(observed)
    spelled: dict[int, tuple[int, ...]] = {}
    for number, node in enumerate(trie.nodes):
        assert node.node_id == number
        before = () if node.parent_id is None else spelled[node.parent_id]  # parents come first
        spelled[number] = (*before, node.token_id)
        here = [t for t in observed if t.tokens[: len(before) + 1] == spelled[number]]
        ends = [t.activation for t in here if t.tokens == spelled[number]]
        literal = node.token_id != IGNORE
        depth = len(before)
        assert node == TrieNode(
            number,
            node.parent_id,
            depth,
            "ignore" if not literal else "context" if depth else "activating",
            node.token_id,
            max(t.importances[depth] for t in here) if literal else 0.0,
            max(t.activations[depth] for t in here) if literal else 0.0,
            bool(ends),
            max(ends, default=None),
            len(here),
        )
    assert sorted(spelled.values()) == list(spelled.values())
    assert set(spelled.values()) == {t.tokens[: n + 1] for t in observed for n in range(len(t.tokens))}
