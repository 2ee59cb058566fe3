"""Which paths of which owners match at every token of a text?

Holds the paths of many owners (neurons) as one trie in flat, sorted arrays: owners whose paths begin alike
share nodes, and the arrays can be written to disk as they are and mapped back. All tokens are walked at once:
the frontier of a depth is every pair of a place in the text and a node that still agrees with it, and one
binary search per pair finds its literal child. Ignore children are followed beside them (DESIGN, section 2).

A walk costs one search for each pair that it visits, then one sort of the paths that matched; paths that
begin with other tokens than the text's cost nothing. Places are taken in blocks with a bounded number of
pairs. Building sorts the paths once per depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from n2g_index.graph.paths import IGNORE, Path

Ints = NDArray[np.int64]

PAIRS = 1 << 20
"""Pairs of a place and a path that may match there, per block: some 40 MB of working memory."""

_PATH_BITS = 31
_PATH_MASK = (1 << _PATH_BITS) - 1
"""A path number takes the low bits of a sort key, as many as an int32 has; the place takes those above."""


@dataclass(frozen=True, slots=True)
class PathTable:
    """Paths of many owners in any order, in columns."""

    owners: NDArray[np.int32]
    """Whose path, [n_paths]."""

    path_ids: NDArray[np.int32]
    """What its owner calls it, [n_paths]."""

    activations: NDArray[np.float32]
    """What it predicts, [n_paths]."""

    lengths: Ints
    """Number of its positions, [n_paths]; at least 1."""

    tokens: NDArray[np.int32]
    """All positions of path 0, then of path 1 and so on, [lengths.sum()]; activating token first."""

    @classmethod
    def of(cls, paths: Iterable[Iterable[Path]]) -> PathTable:
        """Owner i has the i-th paths and calls them 0, 1, ... in their order."""
        groups = [tuple(group) for group in paths]
        flat = list(chain.from_iterable(groups))
        sizes = [len(group) for group in groups]
        return cls(
            owners=np.repeat(np.arange(len(groups), dtype=np.int32), sizes),
            path_ids=np.fromiter(chain.from_iterable(map(range, sizes)), np.int32, len(flat)),
            activations=np.array([path.activation for path in flat], dtype=np.float32),
            lengths=np.array([len(path) for path in flat], dtype=np.int64),
            tokens=np.fromiter(chain.from_iterable(path.tokens for path in flat), np.int32),
        )


@dataclass(frozen=True, slots=True)
class Matches:
    """For each place and owner with any matching path, the one that decides; sorted in this order."""

    window: NDArray[np.int32]
    """Row of the place in the windows, [n_matches]."""

    position: NDArray[np.int32]
    """Column of the place, [n_matches]."""

    owner: NDArray[np.int32]
    """Whose path, [n_matches]."""

    path_id: NDArray[np.int32]
    """Its longest matching path, of equally long ones that of the larger activation, [n_matches]."""

    activation: NDArray[np.float32]
    """What that path predicts, [n_matches]."""

    def __len__(self) -> int:
        return len(self.window)


_INTS, _FLOATS = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
_NO_MATCHES = Matches(_INTS, _INTS, _INTS, _INTS, _FLOATS)


@dataclass(frozen=True, slots=True)
class MergedTrie:
    """The trie. Nodes are numbered level by level, roots first, each level by (parent, slot).

    A slot is a child's place under its parent: 0 for ignore, token id + 1 for a literal. Path numbers rise
    by (owner, length, activation), so that of an owner's matching paths the last one decides.
    """

    width: Ints
    """Number of slots, [1]; the last of them stands for tokens that no path names."""

    keys: Ints
    """parent * width + slot of every node but the roots, ascending, and one sentinel, [n_children + 1]."""

    below: NDArray[np.int32]
    """Number of paths that run through each node, 0 for roots, [n_nodes]."""

    ignore: NDArray[np.int32]
    """The ignore child of each node, 0 if it has none (node 0 is a root, nobody's child), [n_nodes]."""

    ends: Ints
    """The paths that end at node n are `end_paths[ends[n]:ends[n + 1]]`, [n_nodes + 1]."""

    end_paths: NDArray[np.int32]
    """Path numbers, [n_paths]."""

    owners: NDArray[np.int32]
    """By path number, [n_paths]."""

    path_ids: NDArray[np.int32]
    """By path number, [n_paths]."""

    activations: NDArray[np.float32]
    """By path number, [n_paths]."""

    @classmethod
    def build(cls, table: PathTable, roots: NDArray[np.integer] | int = 0, n_roots: int = 1) -> MergedTrie:
        """Merge the paths of a table.

        Args:
            table: the paths; of one owner's equal ones the last decides.
            roots: the root that each path hangs on, from 0, [n_paths] or one for all. Paths under different
                roots share nothing and are matched apart.
            n_roots: number of roots, those without paths included.

        Raises:
            ValueError: when a path is empty or holds a number that is neither a token nor `IGNORE`.
        """
        if (table.lengths < 1).any() or (table.tokens < IGNORE).any():
            raise ValueError("A path has at least one position, each a token id or IGNORE.")
        order = np.lexsort((table.activations, table.lengths, table.owners))
        starts = (np.cumsum(table.lengths) - table.lengths)[order]
        lengths = table.lengths[order]
        node = np.broadcast_to(np.asarray(roots, dtype=np.int64), order.shape)[order]
        width = int(table.tokens.max(initial=0)) + 3

        keys, below, n_nodes = [], [np.zeros(n_roots, dtype=np.int64)], n_roots
        alive = np.arange(len(order))
        for depth in range(int(lengths.max(initial=0))):
            alive = alive[lengths[alive] > depth]
            wanted = node[alive] * width + table.tokens[starts[alive] + depth] + 1
            level, number, count = np.unique(wanted, return_inverse=True, return_counts=True)
            node[alive] = n_nodes + number
            keys.append(level)
            below.append(count)
            n_nodes += len(level)

        keys.append(np.array([np.iinfo(np.int64).max]))
        all_keys = np.concatenate(keys)
        parents, slots = np.divmod(all_keys[:-1], width)
        wild = np.flatnonzero(slots == 0)
        ignore = np.zeros(n_nodes, dtype=np.int32)
        ignore[parents[wild]] = n_roots + wild
        return cls(
            width=np.array([width]),
            keys=all_keys,
            below=np.concatenate(below).astype(np.int32),
            ignore=ignore,
            ends=np.concatenate(([0], np.cumsum(np.bincount(node, minlength=n_nodes)))),
            end_paths=np.argsort(node, kind="stable").astype(np.int32),
            owners=table.owners[order],
            path_ids=table.path_ids[order],
            activations=table.activations[order],
        )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All that there is, by name; `MergedTrie(**arrays)` is the same trie."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def n_nodes(self) -> int:
        """Number of nodes, roots included."""
        return len(self.ignore)

    @property
    def n_paths(self) -> int:
        return len(self.owners)

    @property
    def _n_roots(self) -> int:
        return self.n_nodes - len(self.keys) + 1

    def match(
        self, windows: NDArray[np.integer], roots: NDArray[np.integer] | int = 0, pairs: int = PAIRS
    ) -> Matches:
        """Find what matches anywhere; as `blocks`, in one piece: 20 bytes for each match."""
        found = [_NO_MATCHES, *self.blocks(windows, roots, pairs)]
        columns = ([getattr(block, field.name) for block in found] for field in fields(Matches))
        return Matches(*(np.concatenate(column) for column in columns))

    def blocks(
        self, windows: NDArray[np.integer], roots: NDArray[np.integer] | int = 0, pairs: int = PAIRS
    ) -> Iterator[Matches]:
        """Find what matches, some places at a time, in reading order.

        Args:
            windows: token ids, [n_windows, n_tokens], in reading order and without BOS. Only an ignore node
                matches a number that no path names; a path longer than the tokens up to a place never does.
            roots: the root whose paths each window is held against, [n_windows] or one for all.
            pairs: bound of the pairs in a block; a place with more of them makes a block of its own.
        """
        n_windows, n_tokens = windows.shape
        width = int(self.width[0])
        slots = windows.reshape(-1).astype(np.int64) + 1
        slots[(slots < 1) | (slots >= width)] = width - 1
        root = np.repeat(np.broadcast_to(np.asarray(roots, dtype=np.int64), n_windows), n_tokens)
        for places in self._cut(slots, root, pairs):
            key = np.sort(self._matching(places, root[places], slots, n_tokens))
            place, path = key >> _PATH_BITS, key & _PATH_MASK
            owner = self.owners[path]
            decides = np.ones(len(key), dtype=np.bool_)
            decides[:-1] = (place[1:] != place[:-1]) | (owner[1:] != owner[:-1])
            place, path = place[decides], path[decides]
            window, position = np.divmod(place, n_tokens)
            yield Matches(
                window.astype(np.int32),
                position.astype(np.int32),
                owner[decides],
                self.path_ids[path],
                self.activations[path],
            )

    def _cut(self, slots: Ints, roots: Ints, pairs: int) -> list[Ints]:
        """Places where anything may match, in blocks: at most what is below their first token."""
        places = self._sift(slots, roots)
        places, nodes = self._step(places, roots[places], slots[places])
        bound = np.bincount(places, weights=self.below[nodes], minlength=len(slots))
        live = np.flatnonzero(bound)
        block = np.cumsum(bound[live]) // pairs
        return np.split(live, np.flatnonzero(np.diff(block)) + 1) if len(live) else []

    def _sift(self, slots: Ints, roots: Ints) -> Ints:
        """Places whose first token may be under their root.

        Where every window has a root of its own, few are: a table of the low bits of the first keys, small
        enough for the processor's cache, spares the others their binary search.
        """
        n_roots = self._n_roots
        if self.ignore[:n_roots].any():  # any token may be
            return np.arange(len(slots))
        width = int(self.width[0])
        first = self.keys[: np.searchsorted(self.keys, n_roots * width)]
        low = (1 << (16 * len(first) + 1).bit_length()) - 1
        known = np.zeros(low + 1, dtype=np.bool_)
        known[first & low] = True
        return np.flatnonzero(known[(roots * width + slots) & low])

    def _matching(self, places: Ints, nodes: Ints, slots: Ints, n_tokens: int) -> Ints:
        """Every path that matches at these places, as place and path number in one integer."""
        found = []
        depth = 0
        while len(places):
            places, nodes = self._step(places, nodes, slots[places - depth])
            first = self.ends[nodes]
            count = self.ends[nodes + 1] - first
            offset = np.repeat(first - (np.cumsum(count) - count), count)
            path = self.end_paths[offset + np.arange(len(offset))]
            found.append(np.repeat(places << _PATH_BITS, count) | path)
            depth += 1
            more = places % n_tokens >= depth
            places, nodes = places[more], nodes[more]
        return np.concatenate(found)

    def _step(self, places: Ints, nodes: Ints, slots: Ints) -> tuple[Ints, Ints]:
        """The frontier one token further back: literal and ignore children, given each pair's next slot."""
        wanted = nodes * self.width + slots
        at = np.searchsorted(self.keys, wanted)
        literal = np.flatnonzero(self.keys[at] == wanted)
        wild = self.ignore[nodes]
        ignore = np.flatnonzero(wild)
        return (
            np.concatenate((places[literal], places[ignore])),
            np.concatenate((at[literal] + self._n_roots, wild[ignore])),
        )
