"""Does the merged trie find what brute force over all paths and places finds?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from n2g_index.graph.matching import predict, predict_each
from n2g_index.graph.merged import Matches, MergedTrie, PathTable
from n2g_index.graph.paths import IGNORE, Path, matches

ACTIVATIONS = (0.25, 0.5, 0.75, 1.0)

Found = tuple[int, int, int, int, float]
"""Window, position, owner, path id, activation."""

# Every sequence is allowed here, also one that begins or ends with an ignored position.
paths = st.builds(
    Path,
    st.lists(st.integers(IGNORE, 2), min_size=1, max_size=4).map(tuple),
    st.sampled_from(ACTIVATIONS),
)
owned = st.lists(st.lists(paths, max_size=5), max_size=4)
# -1, -2 and 4 are in no path, 3 may be a token that only an ignored position meets.
windows = st.tuples(st.integers(0, 3), st.integers(0, 6)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(-2, 4), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    ).map(lambda rows: np.array(rows, dtype=np.int32).reshape(shape))
)


def merged(*owners: Sequence[Path]) -> MergedTrie:
    return MergedTrie.build(PathTable.of(owners))


def found(result: Matches) -> list[Found]:
    columns = (getattr(result, field.name).tolist() for field in fields(result))
    return list(zip(*columns, strict=True))


def brute_force(owners: Sequence[Sequence[Path]], texts: NDArray[np.integer]) -> list[Found]:
    """Straight from the definition; of equal paths of one owner the last decides."""
    result = []
    for row, text in enumerate(texts.tolist()):
        for column in range(len(text)):
            # `matches` takes -1 in a path for ignore only, so a -1 in the text is as good as any odd token.
            context = text[column::-1]
            for owner, group in enumerate(owners):
                hits = [(len(p), p.activation, i) for i, p in enumerate(group) if matches(p.tokens, context)]
                if hits:
                    _, activation, path_id = max(hits)
                    result.append((row, column, owner, path_id, activation))
    return result


@given(owned, windows)
@example([[Path((1, 0), 0.75), Path((1, IGNORE), 0.75), Path((1, 0), 0.75)]], np.array([[0, 1]]))
@example([[Path((IGNORE,), 0.5)], [Path((2,), 1.0)]], np.array([[-1, 2, 4]]))
def test_matches_are_what_brute_force_finds(owners: list[list[Path]], texts: NDArray[np.int32]) -> None:
    assert found(merged(*owners).match(texts)) == brute_force(owners, texts)


@given(owned, windows, st.integers(1, 9))
def test_the_size_of_a_block_does_not_matter(
    owners: list[list[Path]], texts: NDArray[np.int32], pairs: int
) -> None:
    trie = merged(*owners)
    assert found(trie.match(texts, pairs=pairs)) == found(trie.match(texts))


@given(owned, windows)
def test_each_owner_is_predicted_as_it_is_alone(owners: list[list[Path]], texts: NDArray[np.int32]) -> None:
    result = merged(*owners).match(texts)
    for owner, group in enumerate(owners):
        dense = np.zeros(texts.shape, dtype=np.float32)
        mine = result.owner == owner
        dense[result.window[mine], result.position[mine]] = result.activation[mine]
        assert dense.tolist() == predict(group, texts).tolist()


@given(st.lists(st.tuples(st.lists(paths, max_size=4), st.integers(0, 2)), max_size=5), windows)
def test_paths_under_different_roots_are_matched_apart(
    hung: list[tuple[list[Path], int]], texts: NDArray[np.int32]
) -> None:
    table = PathTable.of(group for group, _ in hung)
    roots = np.array([root for _, root in hung], dtype=np.int64)
    trie = MergedTrie.build(table, roots[table.owners], n_roots=3)
    of_window = np.arange(len(texts)) % 3
    expected = [
        match
        for match in brute_force([group for group, _ in hung], texts)
        if roots[match[2]] == of_window[match[0]]
    ]
    assert found(trie.match(texts, of_window)) == expected


@given(owned, windows, st.integers(1, 2))
def test_predicting_many_neurons_is_predicting_each(
    groups: list[list[Path]], texts: NDArray[np.int32], n_methods: int
) -> None:
    n_neurons = len(groups)
    methods = [groups, groups[::-1]][:n_methods]
    if not n_neurons:
        texts = texts[:0]
    of_window = np.arange(len(texts)) % max(n_neurons, 1)
    predicted = predict_each(methods, texts, of_window)
    assert predicted.shape == (n_methods, *texts.shape)
    for m, method in enumerate(methods):
        for row, neuron in enumerate(of_window):
            alone = predict(method[neuron], texts[row : row + 1])[0]
            assert predicted[m, row].tolist() == alone.tolist()


def test_an_exception_overrides_the_shorter_path_of_its_own_owner_only() -> None:
    general, special = Path((1,), 1.0), Path((1, 0), 0.25)
    trie = merged([general, special], [general])
    assert found(trie.match(np.array([[0, 1, 1]]))) == [
        (0, 1, 0, 1, 0.25),
        (0, 1, 1, 0, 1.0),
        (0, 2, 0, 0, 1.0),
        (0, 2, 1, 0, 1.0),
    ]


def test_a_literal_and_an_ignore_branch_are_both_followed() -> None:
    trie = merged([Path((1, 2, 0), 1.0), Path((1, IGNORE, 3), 0.5)])
    assert found(trie.match(np.array([[3, 2, 1]]))) == [(0, 2, 0, 1, 0.5)]


def test_owners_share_the_nodes_that_their_paths_have_in_common() -> None:
    trie = merged([Path((1, IGNORE, 2), 1.0)], [Path((1, IGNORE, 3), 1.0), Path((1,), 0.5)])
    assert (trie.n_nodes, trie.n_paths) == (5, 3)  # the root, 1, *, 2, 3


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_numbers_that_no_path_names_meet_ignored_positions_only(dtype: type[np.integer]) -> None:
    largest = 120
    trie = merged([Path((0,), 1.0)], [Path((largest,), 1.0)], [Path((1, IGNORE), 1.0)], [Path((1, 0), 1.0)])
    for odd in (np.iinfo(dtype).max, np.iinfo(dtype).min or largest + 1, largest + 1, largest + 2):
        text = np.array([[odd, 1]], dtype=dtype)
        assert found(trie.match(text)) == [(0, 1, 2, 0, 1.0)]


def test_large_token_ids_do_not_overflow() -> None:
    top = np.iinfo(np.int32).max
    deep = Path((top,) * 8, 1.0)
    trie = merged([deep, Path((top - 1,), 0.5)])
    assert found(trie.match(np.full((1, 8), top, dtype=np.int64))) == [(0, 7, 0, 0, 1.0)]
    assert found(trie.match(np.array([[top - 1, top + 1, -top]]))) == [(0, 0, 0, 1, 0.5)]


@pytest.mark.parametrize("tokens", [(), (1, -2), (-3,)])
def test_what_is_no_path_is_refused(tokens: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="A path has at least one position"):
        merged([Path((1,), 1.0), Path(tokens, 1.0)])


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (2, 2)])
def test_nothing_matches_where_there_is_nothing(shape: tuple[int, int]) -> None:
    for trie in (merged(), merged([], []), merged([Path((1,), 1.0)])):
        result = trie.match(np.zeros(shape, dtype=np.int32))
        assert found(result) == []
        assert [getattr(result, field.name).dtype for field in fields(result)] == [np.int32] * 4 + [
            np.float32
        ]


def test_arrays_are_all_there_is() -> None:
    trie = merged([Path((1, IGNORE, 2), 1.0)], [Path((1, 3), 0.5)])
    text = np.array([[2, 3, 1]])
    copies = {name: array.copy() for name, array in trie.arrays().items()}
    assert found(MergedTrie(**copies).match(text)) == found(trie.match(text)) != []  # type: ignore[arg-type]
