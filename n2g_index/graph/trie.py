"""What does a neuron's trie look like, node by node?

All paths of a neuron share their prefixes (paper, section 3.3): the first level holds the activating
tokens, each further level one token of context further back. A node where a path ends is an end node and
keeps the path's activation. Building costs time and memory linear in the summed length of the paths.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from n2g_index.graph.paths import IGNORE, Path, Trace, merge_traces

NodeKind = Literal["activating", "context", "ignore"]


@dataclass(frozen=True, slots=True)
class TrieNode:
    """One position of one or more paths that agree up to here."""

    node_id: int
    """Number within the trie, depth first, siblings by token id."""

    parent_id: int | None
    """None for an activating node."""

    depth: int
    """0 for the activating token, then the distance back from it, ignored positions included."""

    kind: NodeKind
    token_id: int
    """`IGNORE` for an ignore node."""

    importance: float
    """Largest importance observed at this position, 0 for an ignore node."""

    activation: float
    """Largest normalised activation of the neuron observed on this very token."""

    is_end: bool
    end_activation: float | None
    """Activation of the path that ends here."""

    support: int
    """Observations that run through this node."""


@dataclass(frozen=True, slots=True)
class Trie:
    """A neuron's paths and the nodes that they share."""

    paths: tuple[Path, ...]
    nodes: tuple[TrieNode, ...]

    def ends(self) -> dict[int, Path]:
        """The path that ends at each end node, by node id."""
        # Both are in the order of their tokens.
        at_end = (node.node_id for node in self.nodes if node.is_end)
        return dict(zip(at_end, self.paths, strict=True))

    @property
    def max_depth(self) -> int:
        """Depth of the deepest node, 0 for an empty trie."""
        return max((node.depth for node in self.nodes), default=0)


def _kind(depth: int, token: int) -> NodeKind:
    if token == IGNORE:
        return "ignore"
    return "context" if depth else "activating"


def build_trie(traces: Iterable[Trace]) -> Trie:
    """Compile observations into a trie; the result does not depend on their order."""
    traces = tuple(traces)
    importance: dict[tuple[int, ...], float] = {}
    activation: dict[tuple[int, ...], float] = {}
    support: dict[tuple[int, ...], int] = {}
    for trace in traces:
        for depth in range(len(trace.tokens)):
            prefix = trace.tokens[: depth + 1]
            literal = prefix[-1] != IGNORE
            importance[prefix] = max(importance.get(prefix, 0.0), trace.importances[depth] * literal)
            activation[prefix] = max(activation.get(prefix, 0.0), trace.activations[depth] * literal)
            support[prefix] = support.get(prefix, 0) + trace.support
    paths = merge_traces(traces)
    ends = {path.tokens: path.activation for path in paths}
    ids = {prefix: node_id for node_id, prefix in enumerate(sorted(support))}
    nodes = tuple(
        TrieNode(
            node_id=node_id,
            parent_id=ids[prefix[:-1]] if len(prefix) > 1 else None,
            depth=len(prefix) - 1,
            kind=_kind(len(prefix) - 1, prefix[-1]),
            token_id=prefix[-1],
            importance=importance[prefix],
            activation=activation[prefix],
            is_end=prefix in ends,
            end_activation=ends.get(prefix),
            support=support[prefix],
        )
        for prefix, node_id in ids.items()
    )
    return Trie(paths, nodes)
