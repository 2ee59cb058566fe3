"""What do a neuron's windows say, token by token, about when it fires?

Only tokens count whose like fires somewhere in these windows: another token can start no path. Holds one row
per such token, some hundreds for most neurons.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.n2g.prune import Example

NO_TOKEN = -1
"""Stands in a context for a place before the window."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labelled tokens of one neuron; n rows."""

    contexts: NDArray[np.int64]
    """The token and those before it, walking backwards, shape [n, reach + 1]; `NO_TOKEN` before the
    window."""

    activations: NDArray[np.float64]
    """Normalised activation at each of those, at least 0, same shape."""

    fires: NDArray[np.bool_]
    """Shape [n]."""

    window: NDArray[np.int64]
    """Number of the window among those given, shape [n]."""

    example: NDArray[np.bool_]
    """Whether the window is one of the neuron's examples, as the windows to predict are; the others are
    weaker and fire less often. Shape [n]."""

    def without(self, window: int) -> NDArray[np.bool_]:
        """The rows of all other windows."""
        others: NDArray[np.bool_] = self.window != window
        return others

    def __len__(self) -> int:
        return len(self.window)


def not_held_out(windows: Iterable[Example], n_examples: int) -> list[Example]:
    """The windows that may be learnt from: all but the test examples."""
    return [w for w in windows if w.rank >= n_examples or w.split == "train"]


def label(
    windows: Sequence[Example], max_activation: float, *, n_examples: int, reach: int, threshold: float
) -> Labelled:
    """Label the tokens of some windows.

    Args:
        windows: train examples and further windows of one neuron, at least one.
        max_activation: of the neuron, above 0.
        n_examples: ranks from this one on are no examples.
        reach: tokens of context before each token.
        threshold: normalised activation from which a token fires.
    """
    tokens = np.stack([w.tokens for w in windows]).astype(np.int64)  # [n_windows, n_tokens]
    raw = np.stack([w.activations for w in windows])
    fires = raw / np.float32(max_activation) >= np.float32(threshold)  # as `graph.scoring.score` decides
    row, column = np.nonzero(np.isin(tokens, tokens[fires]))
    contexts = np.full((len(row), reach + 1), NO_TOKEN, dtype=np.int64)
    activations = np.zeros(contexts.shape)
    for back in range(reach + 1):
        inside = column >= back
        at = row[inside], column[inside] - back
        contexts[inside, back] = tokens[at]
        activations[inside, back] = np.maximum(raw[at], 0) / max_activation
    example = np.array([w.rank < n_examples for w in windows])
    return Labelled(contexts, activations, fires[row, column], row, example[row])
