"""Which paths predict the neuron best?

1. Grow the context tries and give each path its calibrated probability of firing.
2. Choose the cut. With tokens that fire with probabilities p, calling a fire where p >= c gives an expected
   F1 of 2 sum(p[p >= c]) / (count(p >= c) + sum(p)), and the best c is half of the best value. The p of the
   neuron's own train examples, each from the other windows alone, stand for those of fresh text. So a neuron
   that is hard to predict calls a fire at a low probability, an easy one only at a high one.
3. Store probabilities as activations: the cut becomes the firing threshold, so that everything that reads a
   path treats it as the paper's.
4. Drop the paths that change nothing: those that do not fire and are no exception to one that does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.refined.calibrate import Leaves, assign, features, left_out, probabilities
from n2g_index.build.refined.grow import Tokens, grow
from n2g_index.build.refined.labelled import Labelled
from n2g_index.config import RefinedConfig
from n2g_index.graph.paths import IGNORE, Trace

_LEAST_CUT = 0.03
"""A lower one would call a fire nearly anywhere, on very few tokens' word."""


def learn(labelled: Labelled, config: RefinedConfig, threshold: float) -> list[Trace]:
    """Learn a neuron's paths, each as one trace.

    Args:
        labelled: tokens of its train examples and further windows.
        config: how far to go.
        threshold: normalised activation from which a token fires.
    """
    leaves = assign(grow(labelled, None, config), labelled)
    chance = probabilities(features(leaves, labelled))
    activation = _as_activation(chance, best_cut(left_out(leaves, labelled)), threshold)
    fires = activation >= threshold
    kept = needed(leaves.paths, fires.tolist())
    return [_trace(leaves, labelled, i, float(activation[i]), bool(fires[i])) for i in kept]


def best_cut(probability: NDArray[np.float64]) -> float:
    """The probability from which calling a fire gives the best expected F1."""
    falling = np.sort(probability)[::-1]
    expected = 2 * np.cumsum(falling) / (np.arange(1, len(falling) + 1) + falling.sum())
    return float(max(expected.max(initial=0.0) / 2, _LEAST_CUT))


def _as_activation(chance: NDArray[np.float64], cut: float, threshold: float) -> NDArray[np.float64]:
    """Stretch 0 .. cut to 0 .. threshold and cut .. 1 to threshold .. 1."""
    above = threshold + (1 - threshold) * (chance - cut) / (1 - cut)
    stretched: NDArray[np.float64] = np.where(chance >= cut, above, threshold * chance / cut)
    return stretched


def needed(paths: Sequence[Tokens], fires: Sequence[bool]) -> list[int]:
    """The paths that fire, and those that keep a shorter one from firing where both match."""
    firing: dict[int, list[Tokens]] = {}
    for path, fire in zip(paths, fires, strict=True):
        if fire:
            firing.setdefault(path[0], []).append(path)
    return [
        i
        for i, (path, fire) in enumerate(zip(paths, fires, strict=True))
        if fire
        or any(len(other) < len(path) and _compatible(other, path) for other in firing.get(path[0], ()))
    ]


def _compatible(one: Tokens, other: Tokens) -> bool:
    """Whether some context matches both."""
    return all(IGNORE in (a, b) or a == b for a, b in zip(one, other, strict=False))


def _trace(leaves: Leaves, labelled: Labelled, i: int, activation: float, fires: bool) -> Trace:
    """One path with what its tokens showed; `activations` are the largest that the neuron had at each place.

    Its support is the number of tokens that it decides and that fire, as in the paper's traces; at least 1
    for a path that fires, mostly 0 for an exception.

    The importance of a literal is measured as masking would: the share of the mean activation that is lost
    where the other literals of the path are there and this one is not. What only ever follows such an
    absence, an exception, has importance 0.
    """
    path = leaves.paths[i]
    decided = leaves.leaf == i
    rows = np.flatnonzero(_has(path, labelled))
    seen = labelled.activations[rows, : len(path)].max(axis=0, initial=0.0)
    mean = labelled.activations[rows, 0].mean() if len(rows) else 0.0
    importances = [1.0]
    for back, token in enumerate(path[1:], start=1):
        lost = 0.0
        if token != IGNORE and mean > 0:
            lacking = _has((*path[:back], IGNORE, *path[back + 1 :]), labelled)
            lacking[rows] = False
            lost = 1 - labelled.activations[lacking, 0].mean() / mean if lacking.any() else 1.0
        importances.append(float(np.clip(lost, 0, 1)))
    support = max(int(fires), int(labelled.fires[decided].sum()))
    return Trace(path, tuple(importances), tuple(seen.tolist()), activation, support, fires)


def _has(path: Tokens, labelled: Labelled) -> NDArray[np.bool_]:
    """Which tokens have all of a path's literals, shape [n]."""
    has = np.ones(len(labelled), dtype=np.bool_)
    for back, token in enumerate(path):
        if token != IGNORE:
            has &= labelled.contexts[:, back] == token
    return has
