"""Does a path match exactly the contexts it should, and does `generalises` say so for all of them?"""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from n2g_index.graph.paths import IGNORE, Path, generalises, matches, merge_traces
from tests.making import trace

ALPHABET = (0, 1, 2)
FRESH = 9
"""A token that no path names."""

literals = st.sampled_from(ALPHABET)
positions = st.sampled_from((IGNORE, *ALPHABET))


@st.composite
def paths(draw: st.DrawFn) -> tuple[int, ...]:
    """First and last position literal, as in a trie."""
    middle = draw(st.lists(positions, max_size=2))
    last = draw(st.lists(literals, max_size=1))
    return (draw(literals), *(middle if last else []), *last)


@pytest.mark.parametrize(
    ("path", "context", "expected"),
    [
        ((5,), (5,), True),
        ((5,), (6,), False),
        ((5,), (5, 6, 7), True),  # what stands further back does not matter
        ((5, 6), (5, 6), True),
        ((5, 6), (5,), False),
        ((5, 6), (6, 5), False),
        ((5, IGNORE, 7), (5, 6, 7), True),
        ((5, IGNORE, 7), (5, 7), False),  # an ignored position is a token that exists
        ((5, IGNORE, 7), (5, 7, 6), False),
        ((5, IGNORE), (5,), False),
        ((5, IGNORE), (5, 0), True),
        ((), (), True),
        ((), (5,), True),
        ((5,), (), False),
    ],
)
def test_matches(path: tuple[int, ...], context: tuple[int, ...], expected: bool) -> None:
    assert matches(path, context) is expected


@pytest.mark.parametrize(
    ("general", "special", "expected"),
    [
        ((5,), (5,), True),
        ((5,), (5, 6), True),
        ((5, 6), (5,), False),
        ((5, IGNORE, 7), (5, 6, 7), True),
        ((5, 6, 7), (5, IGNORE, 7), False),
        ((5, IGNORE, 7), (5, IGNORE, 7), True),
        ((5, IGNORE, 7), (5, 7), False),
        ((5, IGNORE), (5, IGNORE, 7), True),
        ((5, IGNORE), (5,), False),  # at the start of a text only the second one matches
    ],
)
def test_generalises(general: tuple[int, ...], special: tuple[int, ...], expected: bool) -> None:
    assert generalises(general, special) is expected


@given(paths(), paths())
def test_generalises_is_what_brute_force_over_all_contexts_says(
    general: tuple[int, ...], special: tuple[int, ...]
) -> None:
    contexts = product((*ALPHABET, FRESH), repeat=len(special))
    contained = all(matches(general, context) for context in contexts if matches(special, context))
    assert generalises(general, special) is contained


@given(paths(), paths(), paths())
def test_generalises_is_a_partial_order(p: tuple[int, ...], q: tuple[int, ...], r: tuple[int, ...]) -> None:
    assert generalises(p, p)
    assert (generalises(p, q) and generalises(q, p)) is (p == q)
    if generalises(p, q) and generalises(q, r):
        assert generalises(p, r)


def test_merge_traces_takes_the_largest_activation_and_counts() -> None:
    observed = [
        trace(5, 6, activation=0.5),
        trace(4, activation=0.75),
        trace(5, 6, activation=1.0),
        trace(5, IGNORE, 6, activation=0.625),
        trace(5, 6, activation=0.625),
    ]
    assert merge_traces(observed) == (
        Path((4,), 0.75, 1),
        Path((5, IGNORE, 6), 0.625, 1),
        Path((5, 6), 1.0, 3),
    )
    assert merge_traces([]) == ()


def test_the_length_of_a_path_counts_ignored_positions() -> None:
    assert len(Path((5, IGNORE, IGNORE, 7), 1.0)) == 4
