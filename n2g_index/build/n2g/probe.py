"""What is a neuron's activation at these positions of this sequence?

Stages ask about many sequences for many neurons; `Probe.run` answers all at once. Equal sequences are run
once, and the model computes of the layer only the places asked for, as far as it can. Where sequences share
enough of their beginnings (the masked variants of a context do, its truncations do not) they are run as token
trees, else as plain batches of equal length, so that there is no padding to reason about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.models.target import Batch, TargetModel, Tree
from n2g_index.build.tokentree import Forest, Tokens, plant, shared_prefixes

__all__ = ["Probe", "ProbeStats", "Tokens"]

SHARED = 0.25
"""Share of the tokens that trees must save: below it their wider rows and their padding cost more."""


@dataclass(slots=True)
class ProbeStats:
    """What probing has cost so far."""

    sequences_asked: int = 0
    sequences_run: int = 0
    tokens_run: int = 0
    """Tokens forwarded, BOS and padding included."""

    batches: int = 0


@dataclass(slots=True)
class Probe:
    """Collects questions about one layer and answers them together."""

    model: TargetModel
    layer: int
    batch_tokens: int = 4096
    """Tokens per forward pass."""

    stats: ProbeStats = field(default_factory=ProbeStats)
    _rows: dict[bytes, int] = field(default_factory=dict)
    _row: list[int] = field(default_factory=list)
    _neuron: list[int] = field(default_factory=list)
    _positions: list[Sequence[int]] = field(default_factory=list)

    def ask(self, tokens: Tokens, neuron: int, positions: Sequence[int]) -> None:
        """Ask for a neuron's activations in a sequence (without BOS) at some of its positions."""
        self._row.append(self._rows.setdefault(tokens.tobytes(), len(self._rows)) if len(positions) else -1)
        self._neuron.append(neuron)
        self._positions.append(positions)

    def run(self) -> list[NDArray[np.float32]]:
        """Answer every question since the last run, in the order they were asked."""
        counts = np.fromiter((len(p) for p in self._positions), dtype=np.int64, count=len(self._positions))
        row = np.repeat(np.array(self._row, dtype=np.int64), counts)
        neuron = np.repeat(np.array(self._neuron, dtype=np.int64), counts)
        position = np.fromiter((p for ps in self._positions for p in ps), dtype=np.int64, count=len(row))
        sequences = [np.frombuffer(key, dtype=np.int32) for key in self._rows]
        answers = self._forward(sequences, row, position, neuron)
        self.stats.sequences_asked += len(self._row)
        self.stats.sequences_run += len(sequences)
        self._rows, self._row, self._neuron, self._positions = {}, [], [], []
        return np.split(answers, np.cumsum(counts)[:-1]) if len(counts) else []

    def _forward(
        self,
        sequences: Sequence[Tokens],
        row: NDArray[np.int64],
        position: NDArray[np.int64],
        neuron: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Values for flat (sequence, position, neuron) questions, all of shape [n]."""
        forest = self._forest(sequences)
        if forest is None:
            sizes = np.fromiter((len(s) for s in sequences), dtype=np.int64, count=len(sequences))
        else:
            sizes = np.diff(forest.starts)
            row, position = forest.find(row, position)
        order = np.argsort(sizes, kind="stable")  # batch by batch, in an order that only the asking decides
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        by_rank = np.argsort(rank[row], kind="stable")
        ranked = rank[row][by_rank]
        spans = self._spans(sizes[order], equal=forest is None)
        parts = [by_rank[slice(*np.searchsorted(ranked, span))] for span in spans]

        def batch(span: tuple[int, int], part: NDArray[np.int64]) -> Batch:
            rows, tree = order[slice(*span)], None
            if forest is None:
                tokens = np.stack([sequences[i] for i in rows])
            else:
                tokens, *shape = forest.padded(rows)
                tree = Tree(*shape)
            self.stats.tokens_run += tokens.size + len(tokens)
            self.stats.batches += 1
            return Batch(tokens, rank[row[part]] - span[0], position[part], neuron[part], tree)

        answers = np.empty(len(row), dtype=np.float32)
        batches = map(batch, spans, parts)
        for part, values in zip(parts, self.model.values(self.layer, batches), strict=True):
            answers[part] = values
        return answers

    def _forest(self, sequences: Sequence[Tokens]) -> Forest | None:
        """The sequences as trees, where the model runs trees and enough is shared."""
        if not self.model.runs_trees:
            return None
        order, shared = shared_prefixes(sequences)
        if shared.sum() < SHARED * sum(map(len, sequences)):
            return None
        return plant(sequences, order, shared, longest=self.model.info.n_ctx - 1)

    def _spans(self, sizes: NDArray[np.int64], *, equal: bool) -> list[tuple[int, int]]:
        """Cut rows of rising size into runs that fit the token budget, BOS and padding included.

        Args:
            sizes: of the rows, without BOS.
            equal: whether all rows of a run must have the same size.
        """
        spans, start = [], 0
        for i, size in enumerate(sizes.tolist()):
            full = (i + 1 - start) * (size + 1) > self.batch_tokens
            if i > start and (full or (equal and size != sizes[start])):
                spans.append((start, i))
                start = i
        return [*spans, (start, len(sizes))] if len(sizes) else []
