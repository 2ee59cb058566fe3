"""How likely does a token fire whose longest match is this path?

A path has met a few tokens, often none that fired or none that did not; the plain share would be 0 or 1. So:
1. Each labelled token counts for its longest matching path. Counts and means are shrunk towards the path's
   parent (the same without its last literal), that one's towards a constant.
2. Seven such numbers per path (`FEATURES`) enter one logistic function. Its weights are constants, fitted
   once by `benchmarks/calibrate.py` to the firing of train examples that had been left out when the path was
   grown. All features are in normalised activations and counts, so that the weights hold for any model; per
   layer weights were no better.

Costs a few passes over the labelled tokens of one neuron.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.refined.grow import Tokens
from n2g_index.build.refined.labelled import Labelled
from n2g_index.graph.paths import IGNORE

FEATURES = (
    "mean activation",
    "mean activation in examples",
    "log-odds of firing in examples",
    "log count in examples",
    "log-odds of the activating token in examples",
    "mean activation of the activating token",
    "largest activation",
)
WEIGHTS = np.array([5.994, -0.743, 0.106, -0.127, 0.305, -1.485, 1.79])
INTERCEPT = -2.548

_SHRINK = 0.5
"""Tokens that a parent's mean, or the constant above it, counts for."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Leaves:
    """Grown paths, and which of them each labelled token is for."""

    paths: tuple[Tokens, ...]
    parent: NDArray[np.int64]
    """The path without its last literal, shape [n_paths]; itself for a lone activating token."""

    root: NDArray[np.int64]
    """The path of the activating token alone, shape [n_paths]."""

    n_literals: NDArray[np.int64]
    """Context literals of each path, shape [n_paths]."""

    leaf: NDArray[np.int64]
    """Longest matching path of each labelled token, -1 for none, shape [n]."""


def assign(paths: list[Tokens], labelled: Labelled) -> Leaves:
    """Find each token's longest matching path; of equally long ones that which was grown first."""
    number = {path: i for i, path in enumerate(paths)}
    leaf = np.full(len(labelled), -1, dtype=np.int64)
    order = np.argsort(labelled.contexts[:, 0], kind="stable")
    firsts = labelled.contexts[order, 0]
    for i in sorted(range(len(paths)), key=lambda i: (len(paths[i]), -i)):
        path = paths[i]
        rows = order[slice(*np.searchsorted(firsts, (path[0], path[0] + 1)))]
        for back, token in enumerate(path[1:], start=1):
            if token != IGNORE:
                rows = rows[labelled.contexts[rows, back] == token]
        leaf[rows] = i
    return Leaves(
        tuple(paths),
        np.array([number[_parent(path)] for path in paths], dtype=np.int64),
        np.array([number[path[:1]] for path in paths], dtype=np.int64),
        np.array([sum(t != IGNORE for t in path[1:]) for path in paths], dtype=np.int64),
        leaf,
    )


def _parent(path: Tokens) -> Tokens:
    shorter = path[:-1]
    while len(shorter) > 1 and shorter[-1] == IGNORE:
        shorter = shorter[:-1]
    return shorter or path


def features(leaves: Leaves, labelled: Labelled, rows: NDArray[np.bool_] | None = None) -> Floats:
    """The numbers of `FEATURES` for each path, from some of the labelled tokens; shape [n_paths, 7]."""
    seen = leaves.leaf >= 0 if rows is None else (leaves.leaf >= 0) & rows
    example = seen & labelled.example
    activation = labelled.activations[:, 0]
    fires = labelled.fires.astype(np.float64)

    def total(values: Floats, where: NDArray[np.bool_]) -> Floats:
        sums = np.bincount(leaves.leaf[where], weights=values[where], minlength=len(leaves.paths))
        return sums.astype(np.float64)  # of no tokens it would be integers

    ones = np.ones(len(labelled))
    n, n_example = total(ones, seen), total(ones, example)
    fired_example = total(fires, example)
    below = _Below(leaves)
    largest = np.zeros(len(leaves.paths))
    np.maximum.at(largest, leaves.leaf[seen], activation[seen])
    root = leaves.root
    root_fired, root_n = below.sum(fired_example)[root], below.sum(n_example)[root]
    return np.stack(
        [
            below.shrunk(total(activation, seen), n, 0.3),
            below.shrunk(total(activation, example), n_example, 0.3),
            _log_odds(below.shrunk(fired_example, n_example, 0.2)),
            np.log1p(n_example),
            np.log((root_fired + 0.3) / (root_n - root_fired + 0.7)),
            (below.sum(total(activation, seen))[root] + 0.1) / (below.sum(n)[root] + 0.5),
            largest,
        ],
        axis=1,
    )


def probabilities(found: Floats) -> Floats:
    """Calibrated probability of firing from `features`, shape [n_paths]."""
    chance: Floats = 1 / (1 + np.exp(-(found @ WEIGHTS + INTERCEPT)))
    return chance


def left_out(leaves: Leaves, labelled: Labelled) -> Floats:
    """For every token of an example, its probability as the other windows alone have it; shape [n_tokens].

    Which literals split was decided with the window in view, which a token of it profits from a little;
    growing anew without each window measured the same and takes several times as long.
    """
    found = []
    for window in np.unique(labelled.window[labelled.example]):
        others = labelled.without(int(window))
        reached = np.bincount(leaves.leaf[others & (leaves.leaf >= 0)], minlength=len(leaves.paths)) > 0
        # A path that no other window reaches would not be there. Its tokens count as surely silent, a little
        # less than what the path above it, had it grown instead, would say.
        chance = np.where(reached, probabilities(features(leaves, labelled, others)), 0.0)
        inside = leaves.leaf[~others]
        found.append(np.where(inside >= 0, chance[inside], 0.0))
    return np.concatenate(found) if found else np.zeros(0)


@dataclass(frozen=True, slots=True)
class _Below:
    """Sums over a path and all that were split off from it."""

    leaves: Leaves

    def sum(self, own: Floats) -> Floats:
        whole = own.copy()
        for depth in range(int(self.leaves.n_literals.max(initial=0)), 0, -1):
            at = self.leaves.n_literals == depth
            np.add.at(whole, self.leaves.parent[at], whole[at])
        return whole

    def shrunk(self, own: Floats, n: Floats, constant: float) -> Floats:
        """Mean of `own` over `n`, shrunk towards the mean of the parent with all below it."""
        parent, top = self.leaves.parent, self.leaves.n_literals == 0
        mean = (self.sum(own) + _SHRINK * constant) / (self.sum(n) + _SHRINK)
        return (own + _SHRINK * np.where(top, constant, mean[parent])) / (n + _SHRINK)


def _log_odds(share: Floats) -> Floats:
    clipped = share.clip(0.001, 0.999)
    odds: Floats = np.log(clipped / (1 - clipped))
    return odds
