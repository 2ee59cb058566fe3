"""Does the refined method learn what its labelled tokens say, and nothing from the test examples?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from n2g_index.build.collect import LayerActivity, collect
from n2g_index.build.models.transformer_lens import TransformerLensModel
from n2g_index.build.n2g.probe import ProbeStats
from n2g_index.build.n2g.prune import Example
from n2g_index.build.neurons import Candidate, Explainer
from n2g_index.build.pipeline import read_windows
from n2g_index.build.progress import Silent
from n2g_index.build.refined.calibrate import (
    INTERCEPT,
    WEIGHTS,
    Leaves,
    assign,
    features,
    left_out,
    probabilities,
)
from n2g_index.build.refined.grow import Tokens, _by_token, _gains, grow
from n2g_index.build.refined.labelled import NO_TOKEN, Labelled, label
from n2g_index.build.refined.learn import best_cut, learn, needed
from n2g_index.config import BuildConfig, N2GConfig, RefinedConfig
from n2g_index.graph.matching import predict
from n2g_index.graph.paths import IGNORE, Path, Trace, matches, merge_traces

THRESHOLD = 0.5
N_TOKENS = 6
REACH = 4
PRONE = RefinedConfig(reach=REACH, min_gain=0.05)
"""Splits where little speaks for it, so that small windows give deep tries."""

Row = Sequence[tuple[int, float]]
"""Token and activation at each place of a window."""


def window(row: Row, *, rank: int = 0) -> Example:
    activations = np.array([activation for _, activation in row], dtype=np.float32)
    tokens = np.array([token for token, _ in row], dtype=np.int32)
    return Example(0, rank, 100 + rank, tokens, int(activations.argmax()), activations)


def label_rows(
    rows: Iterable[Row], *, largest: float = 1.0, n_examples: int = 99, reach: int = REACH
) -> Labelled:
    windows = [window(row, rank=rank) for rank, row in enumerate(rows)]
    return label(windows, largest, n_examples=n_examples, reach=reach, threshold=THRESHOLD)


eighths = st.integers(-4, 8).map(lambda n: n / 8)
rows_of_windows = st.integers(1, 8).flatmap(
    lambda length: st.lists(
        st.lists(st.tuples(st.integers(0, 3), eighths), min_size=length, max_size=length),
        min_size=1,
        max_size=5,
    )
)
labelled_tokens = st.builds(label_rows, rows_of_windows, n_examples=st.integers(0, 4))
configs = st.builds(
    RefinedConfig,
    reach=st.just(REACH),
    max_literals=st.integers(0, 4),
    min_gain=st.sampled_from((0.0, 0.05, 0.3, 1.0)),
    noise=st.sampled_from((0.1, 0.2)),
    place_prior=st.sampled_from((0.0, 0.5, 3.0)),
)


def context_of(labelled: Labelled, i: int) -> Tokens:
    """A token and those before it, as far as the window goes and the method looks."""
    tokens = tuple(labelled.contexts[i].tolist())
    return tokens[: tokens.index(NO_TOKEN)] if NO_TOKEN in tokens else tokens


def parent_of(path: Tokens) -> Tokens:
    """The path without its last literal, or itself."""
    literals = [back for back, token in enumerate(path) if token != IGNORE]
    return path[: literals[-2] + 1] if len(literals) > 1 else path


# What is labelled


@given(
    rows_of_windows,
    st.sampled_from((1.0, 0.7, 3.0)),
    st.sampled_from((0.5, 0.3)),
    st.integers(1, 5),
    st.integers(0, 4),
)
def test_labelled_tokens_equal_a_loop(
    rows: list[Row], largest: float, threshold: float, reach: int, n_examples: int
) -> None:
    one = np.float32
    firing = {
        token for row in rows for token, activation in row if one(activation) / one(largest) >= one(threshold)
    }
    contexts, activations, fires, numbers, examples = [], [], [], [], []
    for number, row in enumerate(rows):
        for place, (token, activation) in enumerate(row):
            if token not in firing:
                continue
            before = [row[place - back] if place >= back else (NO_TOKEN, 0.0) for back in range(reach + 1)]
            contexts.append([t for t, _ in before])
            activations.append([float(one(max(a, 0.0)) / one(largest)) for _, a in before])
            fires.append(bool(one(activation) / one(largest) >= one(threshold)))
            numbers.append(number)
            examples.append(number < n_examples)
    windows = [window(row, rank=rank) for rank, row in enumerate(rows)]
    found = label(windows, largest, n_examples=n_examples, reach=reach, threshold=threshold)
    assert found.contexts.shape == (len(contexts), reach + 1)
    assert len(found) == len(contexts)
    assert found.contexts.tolist() == contexts
    assert found.activations.tolist() == activations
    assert found.fires.tolist() == fires
    assert found.window.tolist() == numbers
    assert found.example.tolist() == examples
    for number in range(len(rows)):
        assert found.without(number).tolist() == [n != number for n in numbers]


def test_an_example_is_known_by_its_rank() -> None:
    windows = [window([(1, 1.0)], rank=rank) for rank in (0, 2, 18, 20, 41)]
    found = label(windows, 1.0, n_examples=20, reach=1, threshold=THRESHOLD)
    assert found.window.tolist() == [0, 1, 2, 3, 4]
    assert found.example.tolist() == [True, True, True, False, False]


# What grows from it


@given(labelled_tokens, configs)
@example(  # the prior alone is more than the least gain: no reason to split by what splits nothing
    label_rows([[(2, 0.0), (1, 1.0), (3, 0.0), (1, 0.0)]] * 4), replace(PRONE, min_gain=0, place_prior=3.0)
)
def test_grown_paths_are_well_formed(labelled: Labelled, config: RefinedConfig) -> None:
    paths = grow(labelled, None, config)
    assert len(set(paths)) == len(paths)
    assert {path[0] for path in paths} == set(labelled.contexts[labelled.fires, 0].tolist())
    for path in paths:
        literals = [token for token in path[1:] if token != IGNORE]
        assert len(literals) <= config.max_literals
        assert len(path) <= config.reach + 1
        assert path[-1] != IGNORE
        assert parent_of(path) in paths
    contexts = [context_of(labelled, i) for i in range(len(labelled))]
    assert all(any(matches(path, context) for context in contexts) for path in paths)
    assert grow(labelled, None, config) == paths


@given(labelled_tokens)
def test_without_literals_or_gain_there_is_one_path_for_each_token_that_fires(labelled: Labelled) -> None:
    alone = [(token,) for token in sorted(set(labelled.contexts[labelled.fires, 0].tolist()))]
    assert grow(labelled, None, replace(PRONE, max_literals=0)) == alone
    assert grow(labelled, None, replace(PRONE, min_gain=1e9)) == alone


@given(labelled_tokens, st.data())
def test_rows_are_all_that_is_learnt_from(labelled: Labelled, data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.booleans(), min_size=len(labelled), max_size=len(labelled))), bool)
    columns = ("contexts", "activations", "fires", "window", "example")
    kept = replace(labelled, **{name: getattr(labelled, name)[rows] for name in columns})
    assert grow(labelled, rows, PRONE) == grow(kept, None, PRONE)


@given(labelled_tokens)
def test_without_a_place_prior_each_activating_token_is_for_itself(labelled: Labelled) -> None:
    config = replace(PRONE, place_prior=0)
    tokens = labelled.contexts[:, 0]
    apart = [grow(labelled, tokens == token, config) for token in sorted(set(tokens.tolist()))]
    assert grow(labelled, None, config) == [path for paths in apart for path in paths]


@given(labelled_tokens, st.data())
def test_gains_equal_a_loop(labelled: Labelled, data: st.DataObject) -> None:
    groups = list(_by_token(labelled, None))
    assume(groups)
    group = data.draw(st.sampled_from(groups))
    n = len(group.activation)
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True).map(sorted)))
    contexts = labelled.contexts[labelled.contexts[:, 0] == group.token][rows]
    activation = labelled.activations[labelled.contexts[:, 0] == group.token][rows, 0].tolist()
    mean = fmean(activation)
    expected = []
    for back, word in zip(group.back.tolist(), group.word.tolist(), strict=True):
        has = [a for a, context in zip(activation, contexts, strict=True) if context[back] == word]
        excess = sum(a - mean for a in has)
        side = 1 / (len(has) + 0.5) + 1 / (len(rows) - len(has) + 0.5)
        splits = word != NO_TOKEN and 0 < len(has) < len(rows)
        expected.append(excess**2 * side / (2 * 0.1**2) if splits else 0.0)
    found = _gains(group, rows, replace(PRONE, noise=0.1))
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    literals = sorted({(back, context[back]) for context in contexts for back in range(1, REACH + 1)})
    if len(rows) == n:
        assert list(zip(group.back.tolist(), group.word.tolist(), strict=True)) == literals


def test_a_gain_by_hand() -> None:
    # 1 follows 2 twice and fires, follows 3 twice and does not
    labelled = label_rows(
        [[(2, 0.0), (1, 1.0)], [(2, 0.0), (1, 1.0)], [(3, 0.0), (1, 0.0)], [(3, 0.0), (1, 0.0)]]
    )
    (group,) = _by_token(labelled, None)
    gains = _gains(group, np.arange(4), RefinedConfig(reach=REACH, noise=0.2))
    # Each side's sum is 1 off what the mean, 1/2, would give.
    assert dict(
        zip(zip(group.back.tolist(), group.word.tolist(), strict=True), gains.tolist(), strict=True)
    ) == {
        (1, 2): pytest.approx((1 / 2.5 + 1 / 2.5) / 0.08),
        (1, 3): pytest.approx((1 / 2.5 + 1 / 2.5) / 0.08),
        **{(back, NO_TOKEN): 0.0 for back in (2, 3, 4)},
    }


def test_rounding_does_not_choose_between_splits_that_gain_the_same() -> None:
    """Splitting 2 off 3 gains what splitting 3 off 2 does."""
    rows = [[(2, 0.0), (1, 0.9)], [(2, 0.0), (1, 0.8)], [(3, 0.0), (1, 0.1)], [(3, 0.0), (1, 0.3)]] * 5
    random = np.random.default_rng(0)
    for _ in range(20):
        noisy = [[(token, a * (1 + 1e-6 * random.standard_normal())) for token, a in row] for row in rows]
        assert grow(label_rows(noisy), None, PRONE) == [(1, 2), (1,)]


# A rule that is there to be found

Rule = Callable[[Tokens], bool]
"""Whether a token fires, from it and the tokens before it, walking backwards."""

RULES: dict[str, tuple[Rule, dict[Tokens, bool]]] = {
    "only after": (
        lambda c: c[0] == 5 and 7 in c[1:3],
        {(5,): False, (5, 7): True, (5, IGNORE, 7): True},
    ),
    "unless after": (lambda c: c[0] == 5 and c[1:2] != (9,), {(5,): True, (5, 9): False}),
    "an exception within a rule": (
        lambda c: c[0] == 5 and c[1:2] == (7,) and c[3:4] != (9,),
        {(5,): False, (5, 7): True, (5, 7, IGNORE, 9): False},
    ),
    "each token its own": (
        lambda c: c[0] == 4 or (c[0] == 5 and c[1:2] == (7,)),
        {(4,): True, (5,): False, (5, 7): True},
    ),
}


def planted(rule: Rule, *, n_windows: int = 60, length: int = 100, seed: int = 0) -> list[Row]:
    texts = np.random.default_rng(seed).integers(0, 10, (n_windows, length)).tolist()
    return [
        [(token, float(rule(tuple(text[place::-1])))) for place, token in enumerate(text)] for text in texts
    ]


@pytest.mark.parametrize("name", RULES)
def test_a_planted_rule_is_found(name: str) -> None:
    rule, paths = RULES[name]
    labelled = label_rows(planted(rule), reach=6)
    assert sorted(grow(labelled, None, RefinedConfig())) == sorted(paths)
    found = merge_traces(learn(labelled, RefinedConfig(), THRESHOLD))
    firing = [path for path, fires in paths.items() if fires]
    assert {path.tokens: path.fires for path in found} == {
        path: fires
        for path, fires in paths.items()
        if fires or any(len(other) < len(path) and other[0] == path[0] for other in firing)
    }
    fresh = planted(rule, seed=1)
    windows = np.array([[token for token, _ in row] for row in fresh])
    truth = np.array([[activation for _, activation in row] for row in fresh])
    assert ((predict(found, windows) >= THRESHOLD) == (truth > 0)).all()


def test_a_literal_is_as_important_as_what_is_lost_without_it() -> None:
    rule, _ = RULES["only after"]
    found = {t.tokens: t.importances for t in learn(label_rows(planted(rule)), PRONE, THRESHOLD)}
    # Where 7 is not directly before 5, it still is one place further back in a tenth of all cases.
    assert found[5, 7] == pytest.approx((1.0, 0.9), abs=0.04)
    assert found[5, IGNORE, 7] == pytest.approx((1.0, 0.0, 0.9), abs=0.04)
    rule, _ = RULES["unless after"]
    assert {t.tokens: t.importances for t in learn(label_rows(planted(rule)), PRONE, THRESHOLD)} == {
        (5,): (1.0,),
        (5, 9): (1.0, 0.0),
    }


# Which path a token is for, and what its tokens say of a path


@st.composite
def path_sets(draw: st.DrawFn) -> list[Tokens]:
    """Some paths in any order, each with its parents."""
    middle = st.lists(st.integers(IGNORE, 2), max_size=3).map(tuple)
    longer = st.tuples(st.integers(0, 3), middle, st.integers(0, 3)).map(lambda p: (p[0], *p[1], p[2]))
    found: set[Tokens] = set()
    for path in [*draw(st.lists(longer, max_size=6)), *((token,) for token in range(4))]:
        while path not in found:
            found.add(path)
            path = parent_of(path)
    return draw(st.permutations(sorted(found)))


@given(path_sets(), labelled_tokens)
@example([(1, IGNORE, 3), (1, 2, 3), (1, 2), (1,)], label_rows([[(3, 0.0), (2, 0.0), (1, 1.0)]]))
def test_tokens_are_for_their_longest_path(paths: list[Tokens], labelled: Labelled) -> None:
    found = assign(paths, labelled)
    longest = []
    for i in range(len(labelled)):
        matching = [k for k, path in enumerate(paths) if matches(path, context_of(labelled, i))]
        longest.append(min(matching, key=lambda k: (-len(paths[k]), k), default=-1))
    assert found.paths == tuple(paths)
    assert found.leaf.tolist() == longest
    assert [paths[k] for k in found.parent] == [parent_of(path) for path in paths]
    assert [paths[k] for k in found.root] == [path[:1] for path in paths]
    assert found.n_literals.tolist() == [sum(token != IGNORE for token in path[1:]) for path in paths]


def test_without_paths_no_token_is_for_any() -> None:
    assert assign([], label_rows([[(1, 1.0), (2, 0.0)]])).leaf.tolist() == [-1]


def features_of(paths: Sequence[Tokens], labelled: Labelled, rows: Sequence[int]) -> list[list[float]]:
    """`features`, path by path and token by token, from some rows."""
    leaf = assign(list(paths), labelled).leaf.tolist()
    activation = labelled.activations[:, 0].tolist()
    rows = [i for i in rows if leaf[i] >= 0]
    in_examples = [i for i in rows if labelled.example[i]]

    def below(path: Tokens, among: Sequence[int]) -> list[int]:
        return [i for i in among if is_below(path, paths[leaf[i]])]

    def is_below(path: Tokens, other: Tokens) -> bool:
        return other == path or (len(other) > 1 and is_below(path, parent_of(other)))

    def shrunk(path: Tokens, values: Sequence[float], among: Sequence[int], constant: float) -> float:
        if len(path) > 1:
            family = below(parent_of(path), among)
            constant = (sum(values[i] for i in family) + 0.5 * constant) / (len(family) + 0.5)
        own = [values[i] for i in among if paths[leaf[i]] == path]
        return (sum(own) + 0.5 * constant) / (len(own) + 0.5)

    found = []
    for path in paths:
        root, own = path[:1], [i for i in rows if paths[leaf[i]] == path]
        share = shrunk(path, labelled.fires.tolist(), in_examples, 0.2)
        share = min(max(share, 0.001), 0.999)
        n_fired = sum(labelled.fires[i] for i in below(root, in_examples))
        n_not = len(below(root, in_examples)) - n_fired
        all_of_token = below(root, rows)
        found.append(
            [
                shrunk(path, activation, rows, 0.3),
                shrunk(path, activation, in_examples, 0.3),
                math.log(share / (1 - share)),
                math.log(1 + sum(labelled.example[i] for i in own)),
                math.log((n_fired + 0.3) / (n_not + 0.7)),
                (sum(activation[i] for i in all_of_token) + 0.1) / (len(all_of_token) + 0.5),
                max((activation[i] for i in own), default=0.0),
            ]
        )
    return found


def test_features_by_hand() -> None:
    # 1 fires after 2 (twice, once in an example), not after 3 (once, in an example).
    rows = [[(2, 0.0), (1, 1.0), (3, 0.0), (1, 0.25)], [(0, 0.0), (2, 0.0), (1, 0.75), (0, 0.0)]]
    labelled = label_rows(rows, n_examples=1)
    leaves = assign([(1, 2), (1,)], labelled)
    token = (2.0 + 0.5 * 0.3) / 3.5, (1.25 + 0.5 * 0.3) / 2.5, (1 + 0.5 * 0.2) / 2.5
    share = (1 + 0.5 * token[2]) / 1.5, 0.5 * 0.2 / 1.5
    odds_of_token, mean_of_token = math.log(1.3 / 1.7), 2.1 / 3.5
    expected = [
        [(1.75 + 0.5 * token[0]) / 2.5, (1 + 0.5 * token[1]) / 1.5, math.log(share[0] / (1 - share[0])),
         math.log(2), odds_of_token, mean_of_token, 1.0],
        [(0.25 + 0.5 * 0.3) / 1.5, (0.25 + 0.5 * 0.3) / 1.5, math.log(share[1] / (1 - share[1])),
         math.log(2), odds_of_token, mean_of_token, 0.25],
    ]  # fmt: skip
    assert features(leaves, labelled).tolist() == [pytest.approx(row) for row in expected]


@given(path_sets(), labelled_tokens, st.data())
def test_features_equal_a_loop(paths: list[Tokens], labelled: Labelled, data: st.DataObject) -> None:
    leaves = assign(paths, labelled)
    n = len(labelled)
    found = features(leaves, labelled)
    assert found.shape == (len(paths), len(WEIGHTS))
    assert np.isfinite(found).all()
    assert found.tolist() == [pytest.approx(row) for row in features_of(paths, labelled, range(n))]
    some = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    assert features(leaves, labelled, some).tolist() == [
        pytest.approx(row) for row in features_of(paths, labelled, np.flatnonzero(some).tolist())
    ]


@given(rows_of_windows, st.integers(0, 4), st.data())
def test_leaving_a_window_out_equals_never_having_seen_it(
    rows: list[Row], n_examples: int, data: st.DataObject
) -> None:
    labelled = label_rows(rows, n_examples=n_examples)
    paths = grow(labelled, None, PRONE)
    out = data.draw(st.integers(0, len(rows) - 1))
    others = [window(row, rank=rank) for rank, row in enumerate(rows) if rank != out]
    assume(others)
    known = label(others, 1.0, n_examples=n_examples, reach=REACH, threshold=THRESHOLD)
    concerned = np.isin([path[0] for path in paths], known.contexts[:, 0])
    without = features(assign(paths, labelled), labelled, labelled.without(out))
    assert without[concerned].tolist() == features(assign(paths, known), known)[concerned].tolist()


def test_probabilities_are_a_logistic_function_of_the_features() -> None:
    found = np.array([[0.5, 0.25, -1.0, 0.0, 2.0, 0.125, 1.0], [0.0] * 7])
    expected = [
        1 / (1 + math.exp(-(sum(w * x for w, x in zip(WEIGHTS, row, strict=True)) + INTERCEPT)))
        for row in found
    ]
    assert probabilities(found).tolist() == pytest.approx(expected)


# Each window without itself


def left_out_by_row(leaves: Leaves, labelled: Labelled) -> dict[int, float]:
    """Left-out probability by row; those of examples, window by window."""
    rows = np.flatnonzero(labelled.example)
    return dict(zip(rows.tolist(), left_out(leaves, labelled).tolist(), strict=True))


@given(labelled_tokens)
def test_left_out_probabilities_equal_a_loop(labelled: Labelled) -> None:
    leaves = assign(grow(labelled, None, PRONE), labelled)
    expected = {}
    for i in np.flatnonzero(labelled.example).tolist():
        others = np.flatnonzero(labelled.window != labelled.window[i]).tolist()
        reached = leaves.leaf[i] in leaves.leaf[others]
        numbers = features_of(leaves.paths, labelled, others)[leaves.leaf[i]]
        expected[i] = float(probabilities(np.array(numbers))) if reached else 0.0
    assert left_out_by_row(leaves, labelled) == pytest.approx(expected)


@given(labelled_tokens, st.data())
def test_what_a_window_says_does_not_change_its_own_probabilities(
    labelled: Labelled, data: st.DataObject
) -> None:
    assume(labelled.example.any())
    leaves = assign(grow(labelled, None, PRONE), labelled)
    out = data.draw(st.sampled_from(sorted(set(labelled.window[labelled.example].tolist()))))
    own = ~labelled.without(out)
    turned = replace(
        labelled,
        fires=labelled.fires ^ own,
        activations=np.where(own[:, None], 1 - labelled.activations, labelled.activations),
    )
    before, after = left_out_by_row(leaves, labelled), left_out_by_row(leaves, turned)
    assert [before[i] for i in np.flatnonzero(own).tolist()] == [
        after[i] for i in np.flatnonzero(own).tolist()
    ]


def test_what_the_other_windows_say_does() -> None:
    labelled = label_rows([[(1, 1.0), (2, 0.0)], [(2, 0.0), (1, 0.75)], [(1, 0.5), (0, 0.0)]])
    leaves = assign([(1,)], labelled)
    own = ~labelled.without(0)
    weaker = np.where(own[:, None], labelled.activations / 2, labelled.activations)
    turned = replace(labelled, fires=labelled.fires ^ own, activations=weaker)
    before, after = left_out_by_row(leaves, labelled), left_out_by_row(leaves, turned)
    assert [before[i] != after[i] for i in range(3)] == [False, True, True]


# Where to cut


@given(st.lists(st.integers(0, 100).map(lambda n: n / 100), max_size=8))
@example([])
@example([0.0, 0.0])
@example([0.5, 0.5, 0.5])
def test_the_cut_is_half_of_the_best_expected_f1(chances: list[float]) -> None:
    best = 0.0
    for cut in chances:
        called = [p for p in chances if p >= cut]
        best = max(best, 2 * sum(called) / (len(called) + sum(chances)))
    assert best_cut(np.array(chances)) == pytest.approx(max(best / 2, 0.03))


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=7))
def test_no_set_of_calls_is_expected_to_do_better_than_the_cut(chances: list[float]) -> None:
    """Calling whichever tokens: none beats calling those at or above the cut."""
    assume(sum(chances) > 0.01)

    def expected_f1(called: Sequence[bool]) -> float:
        caught = sum(p for p, call in zip(chances, called, strict=True) if call)
        return 2 * caught / (sum(called) + sum(chances))

    best = max(expected_f1(called) for called in product((False, True), repeat=len(chances)))
    assume(best / 2 > 0.03)
    assert expected_f1([p >= best_cut(np.array(chances)) - 1e-12 for p in chances]) == pytest.approx(best)


# Which paths are stored


@st.composite
def firing_paths(draw: st.DrawFn) -> tuple[list[Path], list[bool]]:
    middle = st.lists(st.integers(IGNORE, 2), max_size=2).map(tuple)
    context = st.one_of(st.just(()), st.tuples(middle, st.integers(0, 2)).map(lambda p: (*p[0], p[1])))
    tokens = draw(
        st.lists(st.tuples(st.integers(0, 1), context).map(lambda p: (p[0], *p[1])), max_size=8, unique=True)
    )
    activations = [draw(st.sampled_from((0.0, 0.25, 0.49, 0.5, 0.75, 1.0))) for _ in tokens]
    return [Path(t, a) for t, a in zip(tokens, activations, strict=True)], [a >= 0.5 for a in activations]


EVERYTHING = np.array(list(product(range(4), repeat=4)))
"""All texts of four tokens, one of which no path names."""


@given(firing_paths())
@example(([Path((1,), 1.0), Path((1, 0), 0.0), Path((1, 0, 2), 1.0), Path((1, IGNORE, 2), 0.0)],
          [True, False, True, False]))  # fmt: skip
@example(([Path((1, 0), 1.0), Path((1, IGNORE, 2), 0.25), Path((1, 1, 2), 0.25)], [True, False, False]))
def test_paths_that_are_not_needed_change_no_firing(found: tuple[list[Path], list[bool]]) -> None:
    paths, fires = found
    kept = needed([path.tokens for path in paths], fires)
    assert {i for i, fire in enumerate(fires) if fire} <= set(kept)
    firing = predict(paths, EVERYTHING) >= THRESHOLD
    assert (firing == (predict([paths[i] for i in kept], EVERYTHING) >= THRESHOLD)).all()


def test_exceptions_to_nothing_are_dropped() -> None:
    paths = [(1,), (1, 0), (1, 2), (1, 2, 0), (1, 0, 2), (0, 2), (0,)]
    assert needed(paths, [False, True, False, False, False, False, False]) == [1, 4]


# What is learnt


def importances_of(path: Tokens, labelled: Labelled) -> list[float]:
    """Share of the mean activation that is lost where one literal alone is missing."""
    contexts = [context_of(labelled, i) for i in range(len(labelled))]
    activation = labelled.activations[:, 0].tolist()

    def lacks(context: Tokens, back: int, token: int) -> bool:
        return not (len(context) > back and context[back] == token)

    literals = {back: token for back, token in enumerate(path) if token != IGNORE}
    mean = fmean(
        [
            a
            for a, c in zip(activation, contexts, strict=True)
            if not any(lacks(c, *x) for x in literals.items())
        ]
    )
    found = [1.0]
    for back, token in list(enumerate(path))[1:]:
        others = {k: t for k, t in literals.items() if k != back}
        without = [
            a
            for a, c in zip(activation, contexts, strict=True)
            if lacks(c, back, token) and not any(lacks(c, *x) for x in others.items())
        ]
        lost = 0.0 if token == IGNORE or mean == 0 else 1 - fmean(without) / mean if without else 1.0
        found.append(min(max(lost, 0.0), 1.0))
    return found


@given(labelled_tokens, configs)
def test_learnt_paths_say_what_their_tokens_showed(labelled: Labelled, config: RefinedConfig) -> None:
    leaves = assign(grow(labelled, None, config), labelled)
    chance = probabilities(features(leaves, labelled))
    cut = best_cut(left_out(leaves, labelled))
    traces = learn(labelled, config, THRESHOLD)
    for trace in traces:
        i = leaves.paths.index(trace.tokens)
        upper = 0.5 + 0.5 * (chance[i] - cut) / (1 - cut)
        assert trace.activation == pytest.approx(upper if chance[i] >= cut else 0.5 * chance[i] / cut)
        assert trace.fires == (trace.activation >= THRESHOLD)
        fired = sum(
            f for f, leaf in zip(labelled.fires.tolist(), leaves.leaf.tolist(), strict=True) if leaf == i
        )
        assert trace.support == max(int(trace.fires), fired)
        assert list(trace.importances) == pytest.approx(importances_of(trace.tokens, labelled))
        has = [k for k in range(len(labelled)) if matches(trace.tokens, context_of(labelled, k))]
        assert list(trace.activations) == [
            max(labelled.activations[has, back]) for back in range(len(trace.tokens))
        ]
        numbers = [trace.activation, *trace.importances, *trace.activations]
        assert all(0 <= number <= 1 for number in numbers)
    assert {t.tokens for t in traces} == {
        leaves.paths[i] for i in needed(leaves.paths, (chance >= cut).tolist())
    }
    assert learn(labelled, config, THRESHOLD) == traces


@given(labelled_tokens, st.sampled_from((0.3, 0.5, 0.7)))
def test_learnt_paths_predict_what_their_probabilities_say(labelled: Labelled, threshold: float) -> None:
    leaves = assign(grow(labelled, None, PRONE), labelled)
    fires = probabilities(features(leaves, labelled)) >= best_cut(left_out(leaves, labelled))
    texts = [context_of(labelled, i)[::-1] for i in range(len(labelled))]
    found = merge_traces(learn(labelled, PRONE, threshold))
    for i, text in enumerate(texts):
        length = [len(path) for path in leaves.paths if matches(path, text[::-1])]
        if length.count(max(length)) == 1:  # on ties a stored path of the larger activation wins
            predicted = predict(found, np.array([text]))[0, -1]
            assert (predicted >= threshold) == fires[leaves.leaf[i]]


def test_one_window_is_enough() -> None:
    config = RefinedConfig(reach=REACH)
    (only,) = learn(label_rows([[(1, 0.0), (2, 1.0), (3, 0.0)]]), config, THRESHOLD)
    assert only == Trace((2,), (1.0,), (1.0,), only.activation, 1, True)
    assert THRESHOLD <= only.activation <= 1
    after, before = learn(label_rows([[(1, 0.0), (2, 1.0), (3, 0.0), (2, 0.0)]]), config, THRESHOLD)
    assert (after.tokens, before.tokens) == ((2, 1), (2,))


def test_where_nothing_fires_there_is_nothing_to_learn() -> None:
    assert learn(label_rows([[(1, 0.25), (2, 0.0)]]), RefinedConfig(reach=REACH), THRESHOLD) == []


# In a build

SLICE = BuildConfig(layers=(0, 1), neurons=tuple(range(8)), max_tokens=60_000, n2g=N2GConfig(max_context=8))


@pytest.fixture(scope="module")
def read(
    embedded: TransformerLensModel, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Explainer, dict[int, LayerActivity]]:
    windows = read_windows(SLICE, embedded, Silent())
    explainer = Explainer(
        embedded, None, windows, embedded.token_texts(), SLICE.n2g, SLICE.examples, 4096, ProbeStats()
    )
    scratch = tmp_path_factory.mktemp("scratch")
    activity = collect(
        embedded, windows, SLICE.layers or (), top=SLICE.collected_windows, firing_threshold=THRESHOLD,
        scratch=scratch, batch_tokens=4096,
    )  # fmt: skip
    return explainer, dict(activity)


def with_other_activations(activity: LayerActivity, ranks: Iterable[int]) -> LayerActivity:
    """As if the windows of some ranks had shown something else, at every token, up to the same maximum."""
    rows = np.array(activity.rows)
    random = np.random.default_rng(0)
    for neuron in SLICE.neurons or ():
        for rank in ranks:
            values = random.uniform(0, activity.max_activation[neuron], rows.shape[2])
            rows[neuron, activity.slot[rank, neuron]] = values
    return replace(activity, rows=rows)


def paths_found(candidates: Iterable[Candidate]) -> list[tuple[object, ...]]:
    return [(c.neuron, c.error, c.trie, c.methods) for c in candidates]


@pytest.mark.parametrize("layer", [0, 1])
def test_paths_do_not_depend_on_the_test_examples(
    read: tuple[Explainer, dict[int, LayerActivity]], layer: int
) -> None:
    explainer, activities = read
    neurons, activity = SLICE.neurons or (), activities[layer]
    found = paths_found(explainer.candidates(activity, neurons))
    n_examples, n_windows = SLICE.examples, len(activity.slot)
    assert n_windows == SLICE.n2g.refined.windows > n_examples
    test = with_other_activations(activity, range(1, n_examples, 2))
    assert (test.rows != activity.rows)[list(neurons)].mean() > 0.9 * n_examples / 2 / n_windows
    assert paths_found(explainer.candidates(test, neurons)) == found


def test_paths_do_depend_on_all_other_windows(read: tuple[Explainer, dict[int, LayerActivity]]) -> None:
    explainer, activities = read
    neurons, activity = (0, 1, 2), activities[0]
    found = explainer.candidates(activity, neurons)
    for ranks in (range(0, SLICE.examples, 2), range(SLICE.examples, SLICE.collected_windows)):
        other = explainer.candidates(with_other_activations(activity, ranks), neurons)
        assert all(a.trie != b.trie for a, b in zip(found, other, strict=True))


def test_windows_beyond_those_asked_for_are_not_learnt_from(
    read: tuple[Explainer, dict[int, LayerActivity]],
) -> None:
    explainer, activities = read
    fewer = replace(explainer, config=replace(SLICE.n2g, refined=RefinedConfig(windows=30)))
    neurons = (0, 1, 2)
    other = with_other_activations(activities[0], range(30, 80))
    assert paths_found(fewer.candidates(other, neurons)) == paths_found(
        fewer.candidates(activities[0], neurons)
    )
