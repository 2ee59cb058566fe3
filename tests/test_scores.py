"""Are all neurons of a chunk scored as each would be alone, on its own test examples?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from n2g_index.build.n2g.prune import Example
from n2g_index.build.scores import Methods, held_out_scores, lookup_tables, normalised
from n2g_index.graph.matching import predict
from n2g_index.graph.paths import IGNORE, Path
from n2g_index.graph.scoring import NGRAM, Score, lookup_paths, score

LENGTH = 7
NAMES = ("n2g_paper", "n2g", "token_lookup")


def some_example(rank: int, tokens: Sequence[int], activations: Sequence[float]) -> Example:
    values = np.array(activations, dtype=np.float32)
    return Example(0, rank, rank, np.array(tokens, dtype=np.int32), int(values.argmax()), values)


def windows_of(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[Example]]:
    """Examples of one neuron by rank, as many as it has."""
    rows = st.tuples(
        st.lists(st.integers(0, 3), min_size=LENGTH, max_size=LENGTH),
        st.lists(values, min_size=LENGTH, max_size=LENGTH),
    )
    return st.lists(rows, max_size=4).map(
        lambda found: [some_example(rank, *row) for rank, row in enumerate(found)]
    )


paths = st.lists(
    st.builds(
        lambda first, middle, last, activation: Path((first, *middle, last), activation),
        st.integers(0, 3),
        st.lists(st.integers(IGNORE, 3), max_size=2),
        st.integers(0, 3),
        st.sampled_from((0.25, 0.5, 1.0)),
    )
    | st.builds(lambda token, activation: Path((token,), activation), st.integers(0, 3), st.just(0.75)),
    max_size=5,
    unique_by=lambda path: path.tokens,
)
neurons = st.tuples(
    windows_of(st.sampled_from((-0.5, 0.0, 0.3, 0.9, 1.7))),
    st.one_of(st.just({}), st.fixed_dictionaries(dict.fromkeys(NAMES, paths))),
    st.sampled_from((0.3, 1.7, 2.0)),
)


def alone(
    examples: Sequence[Example], methods: Methods, largest: float, threshold: float
) -> dict[str, Score]:
    test = [e for e in examples if e.rank % 2]
    if not test:
        return {}
    tokens = np.array([e.tokens for e in test])
    actual = np.array([e.activations / np.float32(largest) for e in test])
    return {name: score(predict(own, tokens), actual, threshold) for name, own in methods.items()}


@given(st.lists(neurons, max_size=4), st.sampled_from((0.5, 0.3)))
def test_neurons_are_scored_together_as_alone(
    found: list[tuple[list[Example], Methods, float]], threshold: float
) -> None:
    scores = held_out_scores(
        [methods for _, methods, _ in found],
        [examples for examples, _, _ in found],
        [largest for _, _, largest in found],
        threshold,
    )
    assert scores == [alone(*neuron, threshold) for neuron in found]


def test_only_test_examples_count() -> None:
    firing, silent = some_example(0, [1, 2], [2.0, 0.0]), some_example(1, [1, 2], [0.0, 2.0])
    methods = {"n2g": [Path((2,), 1.0)], "token_lookup": [Path((1,), 1.0)], "ngram_lookup": []}
    found = held_out_scores(
        [methods, methods, {}], [[firing, silent], [firing], [firing, silent]], [2.0] * 3, 0.5
    )
    assert found == [
        {
            "n2g": Score(1, 0, 0, 1, 1.0),
            "token_lookup": Score(0, 1, 1, 0, -1.0),
            "ngram_lookup": Score(0, 0, 1, 1, None),
        },
        {},
        {},
    ]


def test_no_neurons_have_no_scores() -> None:
    assert held_out_scores([], [], [], 0.5) == []


@given(windows_of(st.sampled_from((0.0, 0.3, 0.9, 1.7))), st.sampled_from((0.5, 0.3)))
def test_the_lookup_tables_are_those_of_the_train_examples(examples: list[Example], threshold: float) -> None:
    train = examples[::2] or [some_example(0, [1] * LENGTH, [1.7] * LENGTH)]
    tokens = np.array([e.tokens for e in train])
    actual = np.array([e.activations / np.float32(1.7) for e in train])
    assert normalised(train, 1.7).tolist() == actual.tolist()
    assert lookup_tables([*train, *examples[1::2]], 1.7, threshold) == {
        "token_lookup": lookup_paths(tokens, actual, threshold, 1),
        "ngram_lookup": lookup_paths(tokens, actual, threshold, NGRAM),
    }
