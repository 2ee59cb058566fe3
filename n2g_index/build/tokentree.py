"""Which tokens need to be run, when many sequences begin alike?

A causal model gives a token the same value in every sequence that has the same tokens up to it. Sequences are
therefore laid out as trees: a prefix that some of them share stands there once, and a token is told which
tokens it comes after. Trees lie one after another in rows of limited length, because attention costs a row
the square of its length.

In a row every tree is in preorder, so the tokens that come after token j, directly or not, are the run
j .. end[j] - 1. That one number per token is the whole attention mask: i sees j when j <= i < end[j].

Cost: one sort of the sequences and a few array operations per sequence, numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]

ROW = 128
"""Tokens per row: longer rows repeat fewer prefixes, and their attention costs more."""

SUFFIXES = 2
"""A row has room for this many times the sequence that opens it, so that long ones share as well."""


@dataclass(frozen=True, slots=True)
class Forest:
    """Sequences laid out as trees; node and token are the same thing here."""

    tokens: Tokens
    """Of each node, row after row, shape [n_nodes]."""

    depth: NDArray[np.int32]
    """The token's position in its sequences, from 0, shape [n_nodes]."""

    end: NDArray[np.int32]
    """Where in its row the nodes after this one stop, shape [n_nodes]."""

    starts: NDArray[np.int64]
    """Where each row begins, and the end of the last one, shape [n_rows + 1]."""

    places: NDArray[np.int64]
    """The node of every token of the sequences in the order they were given, shape [total length]."""

    firsts: NDArray[np.int64]
    """Where each sequence begins in `places`, shape [n_sequences]."""

    def find(
        self, sequence: NDArray[np.int64], position: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of tokens given by sequence and position; all of shape [n]."""
        node = self.places[self.firsts[sequence] + position]
        row = np.searchsorted(self.starts, node, side="right") - 1
        return row, node - self.starts[row]

    def padded(self, rows: NDArray[np.int64]) -> tuple[Tokens, NDArray[np.int32], NDArray[np.int32]]:
        """Tokens, depths and ends of some rows, each [n_rows, longest of them].

        Padding is a token 0 of depth 0 with nothing after it, seen by no other token of the row.
        """
        sizes = np.diff(self.starts)[rows]
        column = np.arange(sizes.max())
        node = np.where(column < sizes[:, None], self.starts[rows][:, None] + column, -1)
        tokens, depth = np.where(node < 0, 0, self.tokens[node]), np.where(node < 0, 0, self.depth[node])
        end = np.where(node < 0, column + 1, self.end[node])
        return tokens.astype(np.int32), depth.astype(np.int32), end.astype(np.int32)


def shared_prefixes(sequences: Sequence[Tokens]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order that brings equal beginnings together, and how many tokens each shares with the one before.

    Args:
        sequences: distinct token ids, each of shape [length].

    Returns:
        The order, and for each sequence in that order the length of the prefix it shares with the one
        before it, which is the longest it shares with any before it; both [n_sequences].
    """
    keys = [sequence.tobytes() for sequence in sequences]  # any total order of tokens will do
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    shared = np.zeros(len(order), dtype=np.int64)
    for at in range(1, len(order)):
        one, other = sequences[order[at - 1]], sequences[order[at]]
        n = min(len(one), len(other))
        unequal = one[:n] != other[:n]
        first = int(unequal.argmax()) if n else 0
        shared[at] = first if n and unequal[first] else n
    return order, shared


def plant(
    sequences: Sequence[Tokens], order: NDArray[np.int64], shared: NDArray[np.int64], longest: int
) -> Forest:
    """Lay sequences out as trees.

    Args:
        sequences: distinct token ids, each of shape [length].
        order: from `shared_prefixes`.
        shared: from `shared_prefixes`.
        longest: the most tokens that a row may have; a longer sequence has a row of its own length.
    """
    lengths = np.fromiter((len(s) for s in sequences), dtype=np.int64, count=len(sequences))
    firsts = np.cumsum(lengths) - lengths
    places = np.empty(int(lengths.sum()), dtype=np.int64)
    capacity = len(places)  # no sharing at all
    tokens, depth, end = (np.empty(capacity, dtype=np.int32) for _ in range(3))
    path = np.empty(int(lengths.max(initial=0)), dtype=np.int64)  # nodes of the sequence before, by depth
    starts, room, size, previous = [0], 0, 0, 0  # of the row under way: where it may end, and ends
    for i, in_common in zip(order.tolist(), shared.tolist(), strict=True):
        length, begun = int(lengths[i]), starts[-1]
        if size + length - in_common > room:
            end[path[:previous]] = size - begun
            if size > begun:
                starts.append(size)
            begun, previous, in_common = size, 0, 0
            room = begun + max(length, min(longest, max(ROW, SUFFIXES * length)))
        end[path[in_common:previous]] = size - begun
        new = slice(size, size + length - in_common)
        path[in_common:length] = np.arange(new.start, new.stop)
        tokens[new], depth[new] = sequences[i][in_common:], np.arange(in_common, length)
        places[firsts[i] : firsts[i] + length] = path[:length]
        size, previous = new.stop, length
    end[path[:previous]] = size - starts[-1]
    if size > starts[-1]:
        starts.append(size)
    return Forest(tokens[:size], depth[:size], end[:size], np.array(starts, dtype=np.int64), places, firsts)
