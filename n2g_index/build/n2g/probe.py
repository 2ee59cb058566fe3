"""What is a neuron's activation at these positions of this sequence?

Stages ask about many sequences for many neurons; `Probe.run` answers all at once: equal sequences are run
once, sequences of equal length share a batch (so there is no padding to reason about), and the model computes
of the layer only the places asked for, as far as it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.models.target import TargetModel

Tokens = NDArray[np.int32]


@dataclass(slots=True)
class ProbeStats:
    """What probing has cost so far."""

    sequences_asked: int = 0
    sequences_run: int = 0
    tokens_run: int = 0
    """Tokens forwarded, BOS included."""

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
        self._row.append(self._rows.setdefault(tokens.tobytes(), len(self._rows)))
        self._neuron.append(neuron)
        self._positions.append(positions)

    def run(self) -> list[NDArray[np.float32]]:
        """Answer every question since the last run, in the order they were asked."""
        counts = np.fromiter((len(p) for p in self._positions), dtype=np.int64, count=len(self._positions))
        row = np.repeat(np.asarray(self._row, dtype=np.int64), counts)
        neuron = np.repeat(np.asarray(self._neuron, dtype=np.int64), counts)
        position = np.fromiter((p for ps in self._positions for p in ps), dtype=np.int64, count=len(row))
        answers = self._forward(row, neuron, position)
        self.stats.sequences_asked += len(self._row)
        self._rows, self._row, self._neuron, self._positions = {}, [], [], []
        return np.split(answers, np.cumsum(counts)[:-1]) if len(counts) else []

    def _forward(
        self, row: NDArray[np.int64], neuron: NDArray[np.int64], position: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Values for flat (row, neuron, position) questions, all of shape [n]."""
        sequences = [np.frombuffer(key, dtype=np.int32) for key in self._rows]
        lengths = np.fromiter((len(s) for s in sequences), dtype=np.int64, count=len(sequences))
        order = np.argsort(lengths, kind="stable")  # batch by batch, in an order that only the asking decides
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        by_rank = np.argsort(rank[row], kind="stable")
        ranked = rank[row][by_rank]
        answers = np.empty(len(row), dtype=np.float32)
        for start, end in self._batches(lengths[order]):
            batch = np.stack([sequences[i] for i in order[start:end]])
            first, last = np.searchsorted(ranked, (start, end))
            asked = by_rank[first:last]
            answers[asked] = self.model.values(
                self.layer, batch, ranked[first:last] - start, position[asked], neuron[asked]
            )
            self.stats.sequences_run += end - start
            self.stats.tokens_run += batch.size + len(batch)
            self.stats.batches += 1
        return answers

    def _batches(self, lengths: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Cut sorted lengths into runs of equal length that fit the token budget."""
        cuts = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
        spans = []
        for begin, stop in pairwise(cuts):
            if begin == stop:
                continue
            size = max(1, self.batch_tokens // (int(lengths[begin]) + 1))
            spans += [(i, min(i + size, stop)) for i in range(begin, stop, size)]
        return spans
