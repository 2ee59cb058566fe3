"""Does a forest of token trees hold every sequence, each shared prefix once, and the right mask?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from n2g_index.build.tokentree import ROW, Forest, Tokens, plant, shared_prefixes

# Few tokens, so that much is shared; some are alike in all but one byte.
TEXTS = st.lists(
    st.lists(st.sampled_from([1, 2, 256, 513, 70_000]), max_size=9).map(tuple), max_size=40, unique=True
)


def as_arrays(texts: Sequence[Sequence[int]]) -> list[Tokens]:
    return [np.array(text, dtype=np.int32) for text in texts]


def forest_of(texts: Sequence[Sequence[int]], longest: int) -> Forest:
    arrays = as_arrays(texts)
    return plant(arrays, *shared_prefixes(arrays), longest=longest)


def prefixes(texts: Sequence[Sequence[int]]) -> set[tuple[int, ...]]:
    return {tuple(text[: n + 1]) for text in texts for n in range(len(text))}


@given(TEXTS)
def test_neighbours_share_the_longest_prefix_that_any_before_shares(texts: list[tuple[int, ...]]) -> None:
    order, shared = shared_prefixes(as_arrays(texts))
    assert sorted(order.tolist()) == list(range(len(texts)))
    for at, i in enumerate(order):
        before = prefixes([texts[j] for j in order[:at]])
        assert shared[at] == sum(prefix in before for prefix in prefixes([texts[i]]))


@given(TEXTS, st.integers(1, 2 * ROW))
def test_every_token_sees_what_comes_before_it(texts: list[tuple[int, ...]], longest: int) -> None:
    forest = forest_of(texts, longest)
    for number, text in enumerate(texts):
        for at in range(len(text)):
            row, column = (int(a[0]) for a in forest.find(np.array([number]), np.array([at])))
            begin, stop = forest.starts[row : row + 2]
            tokens, ends = forest.tokens[begin:stop], forest.end[begin:stop]
            seen = [j for j in range(column + 1) if column < ends[j]]
            assert tokens[seen].tolist() == list(text[: at + 1])
            assert forest.depth[begin:stop][seen].tolist() == list(range(at + 1))
            assert (ends <= stop - begin).all()


@given(TEXTS)
def test_in_one_row_every_prefix_stands_once(texts: list[tuple[int, ...]]) -> None:
    if len(prefixes(texts)) <= ROW:
        forest = forest_of(texts, ROW)
        assert len(forest.tokens) == len(prefixes(texts))
        assert len(forest.starts) == 1 + bool(prefixes(texts))


@given(TEXTS, st.integers(1, 12))
def test_rows_keep_to_their_length(texts: list[tuple[int, ...]], longest: int) -> None:
    sizes = np.diff(forest_of(texts, longest).starts)
    assert (sizes > 0).all()
    assert (sizes <= max([longest, *map(len, texts)])).all()


def test_a_long_sequence_opens_a_longer_row() -> None:
    text = list(range(ROW))
    variants = [text, [*text[:-1], 5], [*text[:-2], 5]]
    assert np.diff(forest_of(variants, 4 * ROW).starts).tolist() == [ROW + 2]
    assert np.diff(forest_of(variants, ROW).starts).tolist() == [ROW - 1, ROW, ROW]


def test_padding_is_seen_by_none() -> None:
    forest = forest_of([[7, 8], [7, 9], [5, 5, 5]], longest=3)
    tokens, depth, end = forest.padded(np.array([0, 1]))
    assert tokens.tolist() == [[5, 5, 5], [7, 8, 9]]
    short = forest_of([[7], [5, 5, 5]], longest=3).padded(np.array([0, 1]))
    assert [a.tolist() for a in short] == [
        [[5, 5, 5], [7, 0, 0]],
        [[0, 1, 2], [0, 0, 0]],
        [[3, 3, 3], [1, 2, 3]],
    ]
    assert (depth.tolist(), end.tolist()) == ([[0, 1, 2], [0, 1, 1]], [[3, 3, 3], [3, 2, 3]])


@pytest.mark.parametrize("texts", [[], [[]]])
def test_nothing_to_plant_is_no_row(texts: list[list[int]]) -> None:
    forest = forest_of(texts, longest=9)
    assert (forest.starts.tolist(), len(forest.tokens), len(forest.places)) == ([0], 0, 0)
