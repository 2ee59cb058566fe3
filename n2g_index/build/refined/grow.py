"""In which contexts does an activating token fire the neuron, and in which not?

For each activating token, alone:
1. Start with all its occurrences in one leaf.
2. Of all literals (token u, k places back) take the one that best splits the leaf: the gain in
   log-likelihood, in nats, when activations are Gaussian around the mean of their side. Activations say more
   than firing alone: 0.45 is nearer to firing than 0.05.
3. The occurrences that have the literal go to a child, which splits on at places further back. The rest stays
   and is split again, until no literal gains `min_gain`.

A neuron mostly listens to the same places for all its tokens: a place where the first splits gain much, over
all activating tokens, is believed more readily at each (`place_prior`).

Costs, for a leaf of n occurrences, one counting pass over n x reach numbers per split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.refined.labelled import Labelled
from n2g_index.config import RefinedConfig
from n2g_index.graph.paths import IGNORE

Tokens = tuple[int, ...]

_ALIKE = 0.1
"""Activations that all lie this close together are not worth a split."""

_TIE = 1e-4
"""Gains that are this much of themselves apart are equal: where one of two tokens is always there, splitting
by either gains the same, and rounding must not choose. Of equal ones the nearest place is taken."""

_PRIOR = 0.5
"""Occurrences added to each side of a split, so that a single one cannot gain much."""


@dataclass(frozen=True, slots=True)
class _Occurrences:
    """One activating token's rows, their literals numbered from 0 in rising order of (place, token)."""

    token: int
    literals: NDArray[np.int64]
    """Literal at each place, shape [n, reach]."""

    activation: NDArray[np.float64]
    """Shape [n]."""

    back: NDArray[np.int64]
    """How far back each literal's place lies, 1 to reach, shape [n_literals]."""

    word: NDArray[np.int64]
    """Each literal's token, `NO_TOKEN` among them, shape [n_literals]."""


def grow(labelled: Labelled, rows: NDArray[np.bool_] | None, config: RefinedConfig) -> list[Tokens]:
    """Return the paths of all leaves, activating token first; each path's prefixes with fewer literals too.

    Args:
        labelled: one neuron's tokens.
        rows: which of them to learn from, shape [n]; None for all.
        config: how far to go.
    """
    groups = list(_by_token(labelled, rows))
    prior = _place_prior(groups, config)
    return [
        path
        for group in groups
        for path in _split(group, np.arange(len(group.activation)), (), prior, config)
    ]


def _by_token(labelled: Labelled, rows: NDArray[np.bool_] | None) -> Iterator[_Occurrences]:
    kept = np.arange(len(labelled)) if rows is None else np.flatnonzero(rows)
    if not len(kept):
        return
    kept = kept[np.argsort(labelled.contexts[kept, 0], kind="stable")]
    tokens, starts = np.unique(labelled.contexts[kept, 0], return_index=True)
    for token, at in zip(tokens.tolist(), np.split(kept, starts[1:]), strict=True):
        if not labelled.fires[at].any():
            continue
        context = labelled.contexts[at, 1:]  # [n, reach]
        size = int(labelled.contexts.max()) + 2  # NO_TOKEN counts as a token here
        keys, literals = np.unique(
            context + 1 + size * np.arange(1, context.shape[1] + 1), return_inverse=True
        )
        yield _Occurrences(
            token, literals.reshape(context.shape), labelled.activations[at, 0], keys // size, keys % size - 1
        )


def _gains(group: _Occurrences, rows: NDArray[np.int64], config: RefinedConfig) -> NDArray[np.float64]:
    """What splitting these rows by each literal gains, in nats; 0 if it cannot. Shape [n_literals]."""
    literals, activation = group.literals[rows], group.activation[rows]
    counts = np.bincount(literals.ravel(), minlength=len(group.word))
    sums = np.bincount(
        literals.ravel(), weights=np.repeat(activation, literals.shape[1]), minlength=len(group.word)
    )
    excess = sums - counts * activation.mean()
    spread = 1 / (counts + _PRIOR) + 1 / (len(rows) - counts + _PRIOR)
    splits = (group.word >= 0) & (counts > 0) & (counts < len(rows))
    return np.where(splits, excess**2 * spread / (2 * config.noise**2), 0.0)


def _place_prior(groups: list[_Occurrences], config: RefinedConfig) -> NDArray[np.float64]:
    """Nats added to the gain of a literal k places back, shape [reach + 1]; 0 where a place holds half of all
    gain."""
    total = np.zeros(config.reach + 1)
    for group in groups:
        if len(group.activation) < 4:
            continue
        gains = _gains(group, np.arange(len(group.activation)), config)
        first = np.searchsorted(group.back, np.arange(1, config.reach + 1))
        choices = np.diff([*first, len(gains)])  # the best of many gains something by luck
        total[1:] += np.maximum(np.maximum.reduceat(gains, first) - np.log(choices), 0)
    share = (total + 1) / (total[1:].sum() + config.reach)
    prior: NDArray[np.float64] = config.place_prior * np.log(2 * share)
    return prior


def _split(
    group: _Occurrences,
    rows: NDArray[np.int64],
    literals: Tokens,
    prior: NDArray[np.float64],
    config: RefinedConfig,
) -> Iterator[Tokens]:
    """Yield the paths below and at one leaf; `literals` are those of its path, nearest first."""
    last = int(group.back[literals[-1]]) if literals else 0
    bonus = np.where(group.back > last, prior[group.back], -np.inf)
    while len(literals) < config.max_literals and len(rows) >= 2 and np.ptp(group.activation[rows]) >= _ALIKE:
        gains = _gains(group, rows, config)
        gains = np.where(gains > 0, gains + bonus, -np.inf)
        if gains.max() <= config.min_gain:
            break
        best = int((gains >= (1 - _TIE) * gains.max()).argmax())
        has = group.literals[rows, group.back[best] - 1] == best
        yield from _split(group, rows[has], (*literals, best), prior, config)
        rows = rows[~has]
    yield _path(group, literals)


def _path(group: _Occurrences, literals: Tokens) -> Tokens:
    path = [group.token, *[IGNORE] * (int(group.back[literals[-1]]) if literals else 0)]
    for literal in literals:
        path[int(group.back[literal])] = int(group.word[literal])
    return tuple(path)
