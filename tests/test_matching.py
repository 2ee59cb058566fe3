"""Does the vectorised matcher predict what brute force predicts?"""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from n2g_index.graph.matching import predict
from n2g_index.graph.paths import IGNORE, Path, merge_traces
from tests import oracle
from tests.making import trace

ACTIVATIONS = (0.25, 0.5, 0.75, 1.0)


@st.composite
def paths(draw: st.DrawFn) -> Path:
    middle = draw(st.lists(st.integers(IGNORE, 2), max_size=3))
    last = draw(st.lists(st.integers(0, 2), max_size=1))
    tokens = (draw(st.integers(0, 2)), *(middle if last else []), *last)
    return Path(tokens, draw(st.sampled_from(ACTIVATIONS)), draw(st.integers(1, 3)))


windows = st.tuples(st.integers(0, 3), st.integers(0, 7)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(0, 3), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    ).map(lambda rows: np.array(rows, dtype=np.int32).reshape(shape))
)


@given(st.lists(paths(), max_size=8, unique_by=lambda path: path.tokens), windows)
@example([Path((1, 0), 0.25), Path((1, IGNORE), 0.75)], np.array([[0, 1]]))  # a tie in length
def test_predictions_equal_brute_force(found: list[Path], texts: NDArray[np.int32]) -> None:
    known = {path.tokens: (path.activation, path.support) for path in found}
    predicted = predict(found, texts)
    assert predicted.dtype == np.float32
    assert predicted.shape == texts.shape
    assert predicted.tolist() == [oracle.predict(known, row) for row in texts.tolist()]


def test_the_longest_match_wins_even_when_it_is_weaker() -> None:
    found = [Path((1,), 1.0), Path((1, 0), 0.25), Path((1, 0, 0), 0.5)]
    assert predict(found, np.array([[1, 0, 1, 0, 0, 1]])).tolist() == [[1.0, 0.0, 0.25, 0.0, 0.0, 0.5]]


def test_a_literal_and_an_ignore_branch_are_both_followed() -> None:
    # 1 <- 2 leads nowhere with this text, 1 <- * <- 3 does
    found = [Path((1, 2, 0), 1.0), Path((1, IGNORE, 3), 0.5)]
    assert predict(found, np.array([[3, 2, 1]])).tolist() == [[0.0, 0.0, 0.5]]


def test_of_equally_long_matches_the_larger_activation_wins() -> None:
    found = [Path((1, IGNORE, 3), 0.75), Path((1, 2, 3), 0.5)]
    assert predict(found, np.array([[3, 2, 1]])).tolist() == [[0.0, 0.0, 0.75]]
    assert predict(found[::-1], np.array([[3, 2, 1]])).tolist() == [[0.0, 0.0, 0.75]]


def test_a_window_does_not_reach_into_the_one_before() -> None:
    found = [Path((1, 2), 1.0), Path((1, IGNORE), 0.5)]
    assert predict(found, np.array([[0, 2], [1, 0]])).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_path_longer_than_the_window_never_matches() -> None:
    assert predict([Path((1, *[IGNORE] * 3), 1.0)], np.array([[1, 1, 1]])).tolist() == [[0.0] * 3]


def test_a_path_predicts_its_own_observation() -> None:
    merged = merge_traces([trace(4, IGNORE, 2, activation=0.5), trace(4, activation=0.75)])
    assert predict(merged, np.array([[2, 9, 4, 4]])).tolist() == [[0.0, 0.0, 0.5, 0.75]]
