"""How well does each method predict the held-out examples of these neurons?

Every method is a set of paths: the neuron's own, the paper's where those are others, and the two lookup
tables of the train examples. One walk predicts for all neurons of a chunk and all methods; test examples are
read here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.n2g.prune import Example
from n2g_index.graph.matching import predict_each
from n2g_index.graph.paths import Path
from n2g_index.graph.scoring import NGRAM, Score, lookup_paths, score

Methods = Mapping[str, Sequence[Path]]
"""A neuron's paths by method."""


def normalised(examples: Sequence[Example], max_activation: float) -> NDArray[np.float32]:
    """Normalised activations of some examples, shape [n_examples, window]."""
    return np.stack([e.activations for e in examples]) / np.float32(max_activation)


def lookup_tables(
    examples: Iterable[Example], max_activation: float, threshold: float
) -> dict[str, Sequence[Path]]:
    """The paper's two baselines, from a neuron's train examples."""
    train = [e for e in examples if e.split == "train"]
    tokens, actual = np.stack([e.tokens for e in train]), normalised(train, max_activation)
    return {
        "token_lookup": lookup_paths(tokens, actual, threshold, n=1),
        "ngram_lookup": lookup_paths(tokens, actual, threshold, n=NGRAM),
    }


def held_out_scores(
    methods: Sequence[Methods],
    examples: Sequence[Sequence[Example]],
    max_activation: Sequence[float],
    threshold: float,
) -> list[dict[str, Score]]:
    """Score every neuron on its own test examples.

    Args:
        methods: of each neuron; all neurons that have any have the same ones.
        examples: of each neuron, train examples among them.
        max_activation: of each neuron.
        threshold: normalised activation from which a token fires.

    Returns:
        Each neuron's scores by method; none for a neuron without test examples or methods.
    """
    test = [
        [e for e in own if e.split == "test"] if found else []
        for own, found in zip(examples, methods, strict=True)
    ]
    owner = np.repeat(np.arange(len(test)), [len(own) for own in test])
    if not len(owner):
        return [{} for _ in methods]
    names = list(next(found for found in methods if found))
    windows = np.stack([e.tokens for own in test for e in own])
    predicted = predict_each([[found.get(name, ()) for found in methods] for name in names], windows, owner)
    scores: list[dict[str, Score]] = []
    end = 0
    for own, largest in zip(test, max_activation, strict=True):
        start, end = end, end + len(own)
        actual = normalised(own, largest) if own else None
        guesses = zip(names, predicted[:, start:end], strict=True)
        scores.append({} if actual is None else {name: score(g, actual, threshold) for name, g in guesses})
    return scores
