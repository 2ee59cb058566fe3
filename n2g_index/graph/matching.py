"""Where, and how strongly, does a neuron's trie predict that it fires?

The dense form of `merged.py`, for scoring: neurons each on their own windows, without sharing nodes. Every
neuron is a root of the merged trie, so that a window walks its own neuron's paths only; several methods
(paths and lookup tables, say) are walked together. Cost: some 20 ns for each token, and a walk for those
with which a path of their neuron begins; a call for a single neuron takes some 0.3 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from n2g_index.graph.merged import MergedTrie, PathTable
from n2g_index.graph.paths import Path


def predict(paths: Iterable[Path], windows: NDArray[np.integer]) -> NDArray[np.float32]:
    """Predict the normalised activation at every token.

    Args:
        paths: a neuron's paths.
        windows: token ids, shape [n_windows, n_tokens], in reading order and without BOS.

    Returns:
        float32 of the same shape: at each token the activation of the longest matching path, on ties the
        larger one, 0 where none matches.
    """
    predicted: NDArray[np.float32] = predict_each([[paths]], windows, np.zeros(len(windows), np.int64))[0]
    return predicted


def predict_each(
    methods: Sequence[Sequence[Iterable[Path]]],
    windows: NDArray[np.integer],
    neurons: NDArray[np.integer],
) -> NDArray[np.float32]:
    """Predict many neurons, each on its own windows, by several methods at once.

    Args:
        methods: for each method the paths of every neuron, [n_methods][n_neurons].
        windows: token ids, shape [n_windows, n_tokens], as in `predict`.
        neurons: the neuron that each window is predicted for, from 0, [n_windows].

    Returns:
        float32, [n_methods, n_windows, n_tokens].
    """
    n_neurons = len(methods[0])
    table = PathTable.of(chain.from_iterable(methods))
    trie = MergedTrie.build(table, table.owners % n_neurons, n_neurons)
    predicted = np.zeros((len(methods), *windows.shape), dtype=np.float32)
    for found in trie.blocks(windows, neurons):
        predicted[found.owner // n_neurons, found.window, found.position] = found.activation
    return predicted
