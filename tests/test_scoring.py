"""Are counts, ratios, correlation and the lookup tables what a naive computation gives?"""

from __future__ import annotations

from statistics import correlation

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from n2g_index.graph.paths import Path
from n2g_index.graph.scoring import NGRAM, Score, lookup_paths, score

quarters = st.sampled_from((0.0, 0.25, 0.5, 0.75, 1.0))


def floats(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


def test_counts_and_ratios() -> None:
    predicted, actual = [1.0, 0.5, 0.75, 0.25, 0.0], [1.0, 0.25, 0.5, 0.5, 0.0]
    found = score(floats(predicted), floats(actual), 0.5)
    assert (found.tp, found.fp, found.fn, found.tn) == (2, 1, 1, 1)
    assert (found.precision, found.recall) == (2 / 3, 2 / 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.correlation == pytest.approx(
        correlation([1.0, 0.5, 0.75, 0.25, 0.0], [1.0, 0.25, 0.5, 0.5, 0.0])
    )


@pytest.mark.parametrize(
    ("counts", "ratios"),
    [
        ((0, 0, 0, 0), (0.0, 0.0, 0.0)),
        ((0, 0, 3, 1), (0.0, 0.0, 0.0)),
        ((0, 3, 0, 1), (0.0, 0.0, 0.0)),
        ((3, 0, 0, 0), (1.0, 1.0, 1.0)),
        ((1, 1, 3, 0), (0.5, 0.25, 1 / 3)),
    ],
)
def test_a_ratio_without_a_denominator_is_0(
    counts: tuple[int, int, int, int], ratios: tuple[float, float, float]
) -> None:
    found = Score(*counts, correlation=None)
    assert (found.precision, found.recall, found.f1) == pytest.approx(ratios)


def test_the_threshold_itself_fires() -> None:
    assert score(floats([0.5]), floats([0.5]), 0.5) == Score(1, 0, 0, 0, None)


def test_correlation_needs_both_to_vary() -> None:
    varies, constant = floats([0.0, 0.5], [1.0, 0.25]), floats([0.1, 0.1], [0.1, 0.1])
    assert score(varies, constant, 0.5).correlation is None
    assert score(constant, varies, 0.5).correlation is None
    assert score(varies, varies, 0.5).correlation == pytest.approx(1.0)
    assert score(varies, 1 - varies, 0.5).correlation == pytest.approx(-1.0)


def test_no_tokens_at_all() -> None:
    nothing = np.zeros((0, 4), dtype=np.float32)
    assert score(nothing, nothing, 0.5) == Score(0, 0, 0, 0, None)


@given(st.lists(st.tuples(quarters, quarters), min_size=1, max_size=20))
def test_counts_equal_a_loop(pairs: list[tuple[float, float]]) -> None:
    found = score(floats([p for p, _ in pairs]), floats([a for _, a in pairs]), 0.5)
    classes = [(p >= 0.5, a >= 0.5) for p, a in pairs]
    assert (found.tp, found.fp, found.fn, found.tn) == tuple(
        classes.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))
    )


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2), quarters), min_size=6, max_size=6), min_size=1, max_size=4
    ),
    st.sampled_from((1, 2, NGRAM)),
)
def test_lookup_tables_equal_a_dictionary(rows: list[list[tuple[int, float]]], n: int) -> None:
    table: dict[tuple[int, ...], list[float]] = {}
    for row in rows:
        for at in range(n - 1, len(row)):
            if row[at][1] >= 0.5:
                gram = tuple(row[at - back][0] for back in range(n))
                table.setdefault(gram, []).append(row[at][1])
    windows = np.array([[token for token, _ in row] for row in rows])
    actual = floats(*([activation for _, activation in row] for row in rows))
    assert lookup_paths(windows, actual, 0.5, n) == tuple(
        Path(gram, max(table[gram]), len(table[gram])) for gram in sorted(table)
    )
