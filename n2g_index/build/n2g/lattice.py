"""Which combination of tokens drives the neuron hardest?

Paper, Algorithm 1, steps 10 to 12. Steps, for each minimal context with important tokens:
1. Its lattice: at each important position the original token and every substitute tried there, kept or not.
2. Where the lattice has at most `max_combinations` combinations, read the pivot in all of them.
3. Where it has more, climb: change one position at a time to the best token there, given all the others,
   until no single change gains anything. Once from the original, once from each position's best single token
   combined, as tokens that are good one by one may well spoil each other.
4. The optimum is the strongest combination read. Of those as strong as it, take the one with the fewest
   changes, then the one with the lower token ids.

The original and every single change have been read by `prune` and `augment` and are not read again. No token
behind the pivot is: it could not change the pivot. Searches run side by side and share the probe's batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from math import prod

import numpy as np

from n2g_index.build.n2g.augment import Substitute
from n2g_index.build.n2g.probe import Probe, Tokens
from n2g_index.build.n2g.saliency import Saliency
from n2g_index.config import N2GConfig

TIE = 1e-5
"""Activations that differ by no more than this share are equal: from batch to batch, rounding differs so."""

_PORTION = 200_000
"""Tokens asked for before the probe runs, give or take one search's question; it bounds the memory."""

Combination = tuple[int, ...]
"""A token id for each important position."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """A minimal context with all that may stand at its important positions."""

    saliency: Saliency
    positions: tuple[int, ...]
    """The positions that are important for the pivot, rising."""

    choices: tuple[tuple[int, ...], ...]
    """Token ids for each of them, the original's first."""

    singles: Mapping[Combination, float]
    """Raw activation of the pivot in the original and with each single change: what has been read already."""

    @property
    def original(self) -> Combination:
        return tuple(tokens[0] for tokens in self.choices)

    @property
    def n_combinations(self) -> int:
        return prod(map(len, self.choices))

    def changes(self, combination: Combination) -> int:
        """At how many positions a combination differs from the original."""
        return sum(a != b for a, b in zip(combination, self.original, strict=True))

    def sequences(self, combinations: Sequence[Combination]) -> Tokens:
        """The minimal context up to the pivot with each combination in place, shape [n, pivot + 1]."""
        context = self.saliency.context
        rows: Tokens = np.tile(context.tokens[: context.pivot + 1], (len(combinations), 1))
        rows[:, list(self.positions)] = combinations
        return rows


@dataclass(frozen=True, slots=True)
class Optimum:
    """The combination of a lattice that drives the pivot hardest."""

    lattice: Lattice
    combination: Combination
    activation: float
    """Raw, of the pivot."""

    exact: bool
    """Every combination was tried; else there may be a stronger one."""

    n_tried: int
    """Combinations whose activation is known, the original and the single changes among them."""

    @property
    def tokens(self) -> Tokens:
        """The minimal context with the combination in place, pivot last, shape [pivot + 1]."""
        tokens: Tokens = self.lattice.sequences([self.combination])[0]
        return tokens

    @property
    def original_activation(self) -> float:
        """Raw, of the pivot in the unchanged minimal context."""
        return self.lattice.singles[self.lattice.original]

    @property
    def n_changes(self) -> int:
        """Tokens that differ from the original. With two or more it beats every single change."""
        return self.lattice.changes(self.combination)


def find_optima(
    probe: Probe,
    saliencies: Sequence[Saliency],
    substitutes: Sequence[Sequence[Substitute]],
    config: N2GConfig,
) -> list[Optimum | None]:
    """Search each context's lattice; None where the pivot does not fire or nothing is important for it."""
    optima: list[Optimum | None] = [None] * len(saliencies)
    searches = deque(
        (i, _Search(lattice, config.max_combinations))
        for i, (saliency, tried) in enumerate(zip(saliencies, substitutes, strict=True))
        if (lattice := _lattice(saliency, tried, config)) is not None
    )
    while searches:
        asked: list[tuple[int, _Search, list[Combination]]] = []
        n_tokens = 0
        while searches and n_tokens < _PORTION:
            i, search = searches.popleft()
            combinations = next(search.questions, None)
            if combinations is None:
                optima[i] = search.optimum()
                continue
            context = search.lattice.saliency.context
            for sequence in search.lattice.sequences(combinations):
                probe.ask(sequence, context.example.neuron, (context.pivot,))
            asked.append((i, search, combinations))
            n_tokens += len(combinations) * (context.pivot + 1)
        answers = iter(probe.run())
        for i, search, combinations in asked:
            search.known.update({combination: float(next(answers)[0]) for combination in combinations})
            searches.appendleft((i, search))  # so that few are under way, and hold what they know
    return optima


def _lattice(saliency: Saliency, substitutes: Sequence[Substitute], config: N2GConfig) -> Lattice | None:
    context = saliency.context
    if context.pivot not in saliency.importance:
        return None
    positions = saliency.important(context.pivot, config.importance_threshold)
    if not positions:
        return None
    original = tuple(context.tokens[list(positions)].tolist())
    choices = [[token] for token in original]
    singles = {original: context.kept}
    for substitute in substitutes:
        place = positions.index(substitute.position)
        choices[place].append(substitute.token_id)
        singles[_replaced(original, place, substitute.token_id)] = substitute.activations[context.pivot]
    return Lattice(saliency, positions, tuple(map(tuple, choices)), singles)


def _replaced(combination: Combination, place: int, token: int) -> Combination:
    return (*combination[:place], token, *combination[place + 1 :])


class _Search:
    """The search of one lattice: it says what it must know next and is told it."""

    def __init__(self, lattice: Lattice, max_combinations: int) -> None:
        self.lattice = lattice
        self.exact = lattice.n_combinations <= max_combinations
        self.known = dict(lattice.singles)
        everything = product(*lattice.choices)  # nothing is taken of it until the search is asked
        self.questions = self._ask(everything) if self.exact else self._climb()
        """What must be in `known` before the next question; no question is empty."""

    def optimum(self) -> Optimum:
        # The original comes first and its pivot fires, so the maximum is a positive number even beside NaNs.
        least = max(self.known.values()) * (1 - TIE)
        best = min(
            (combination for combination, activation in self.known.items() if activation >= least),
            key=lambda combination: (self.lattice.changes(combination), combination),
        )
        return Optimum(self.lattice, best, self.known[best], self.exact, len(self.known))

    def _climb(self) -> Iterator[list[Combination]]:
        original = self.lattice.original
        places = range(len(original))
        singles = [self._strongest(self._around(original, place)) for place in places]
        # The position with the most to gain first: the first climb begins with the best single change.
        order = sorted(places, key=lambda place: -self.known[singles[place]])
        for start in (original, tuple(singles[place][place] for place in places)):
            yield from self._ask([start])
            at, settled = start, 0
            for place in cycle(order):
                around = self._around(at, place)
                yield from self._ask(around)
                best = self._strongest(around)
                if self.known[best] > self.known[at]:
                    at, settled = best, 0
                settled += 1
                if settled == len(order):
                    break

    def _around(self, at: Combination, place: int) -> list[Combination]:
        return [_replaced(at, place, token) for token in self.lattice.choices[place]]

    def _strongest(self, combinations: Iterable[Combination]) -> Combination:
        return max(combinations, key=self.known.__getitem__)

    def _ask(self, combinations: Iterable[Combination]) -> Iterator[list[Combination]]:
        unknown = [combination for combination in combinations if combination not in self.known]
        if unknown:
            yield unknown
