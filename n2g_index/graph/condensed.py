"""What does a neuron's trie look like to a person?

The neuron graph of the paper's figures (section 3.4): ignore nodes are taken out, and equal tokens at
equal depth become one node. It shows what fires the neuron; exceptions are left out. Depth counts literal
tokens back from the activating one, so that reading order runs from the deepest column to column 0. Linear in
the summed length of the paths.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from n2g_index.graph.paths import IGNORE
from n2g_index.graph.trie import Trie, TrieNode

GraphNodeKind = Literal["activating", "context"]


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A token at a distance from the activating one."""

    graph_node_id: int
    depth: int
    """0 for activating tokens, then literal tokens further back."""

    kind: GraphNodeKind
    token_id: int
    importance: float
    """Largest importance among the merged trie nodes."""

    activation: float
    """Largest normalised activation of the neuron on this token."""

    is_end: bool
    """A path ends here: this is the earliest token that the neuron needs."""

    component: int
    """Number of the connected part, largest support first."""

    is_core: bool
    """Every path of the component runs through here although the neuron does not fire on this token."""


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """Two neighbouring literal tokens of a path; `src` is nearer to the activating token."""

    src: int
    dst: int
    support: int


@dataclass(frozen=True, slots=True)
class NeuronGraph:
    """The condensed drawing of a trie."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]

    @property
    def n_components(self) -> int:
        return len({node.component for node in self.nodes})


_Key = tuple[int, int]  # (literal depth, token id)


def _literal_keys(trie: Trie) -> dict[int, _Key]:
    """Trie node id -> the key of its graph node; for an ignore node the key of the literal above it."""
    by_node: dict[int, _Key] = {}
    for node in trie.nodes:  # parents come before their children
        if node.parent_id is None:
            by_node[node.node_id] = (0, node.token_id)
        elif node.token_id == IGNORE:
            by_node[node.node_id] = by_node[node.parent_id]
        else:
            by_node[node.node_id] = (by_node[node.parent_id][0] + 1, node.token_id)
    return by_node


def _components(keys: Iterable[_Key], links: Iterable[tuple[_Key, _Key]]) -> dict[_Key, _Key]:
    """Union-find over the undirected graph; returns key -> representative key."""
    parent = {key: key for key in keys}

    def find(key: _Key) -> _Key:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for a, b in links:
        low, high = sorted((find(a), find(b)))
        parent[high] = low
    return {key: find(key) for key in parent}


def _ancestors(trie: Trie, ends: set[int]) -> set[int]:
    """The end nodes given and all nodes above them."""
    found = set(ends)
    for node in reversed(trie.nodes):  # children come after their parents
        if node.node_id in found and node.parent_id is not None:
            found.add(node.parent_id)
    return found


def condense(trie: Trie) -> NeuronGraph:
    """Merge a trie into its neuron graph."""
    key_of = _literal_keys(trie)
    ends = {node_id for node_id, path in trie.ends().items() if path.fires}
    on_path = _ancestors(trie, ends)
    members: dict[_Key, list[TrieNode]] = defaultdict(list)
    edges: Counter[tuple[_Key, _Key]] = Counter()
    for node in trie.nodes:
        if node.token_id == IGNORE or node.node_id not in on_path:
            continue
        members[key_of[node.node_id]].append(node)
        if node.parent_id is not None:
            edges[key_of[node.parent_id], key_of[node.node_id]] += node.support
    representative = _components(members, edges)

    paths = [path for path in trie.paths if path.fires]
    weight: Counter[_Key] = Counter()
    runs: Counter[_Key] = Counter()  # paths through each node
    total: Counter[_Key] = Counter()  # paths in each component
    for path in paths:
        keys = _path_keys(path.tokens)
        weight[representative[keys[0]]] += path.support
        total[representative[keys[0]]] += 1
        runs.update(keys)
    order = sorted(weight, key=lambda key: (-weight[key], key))
    number = {key: i for i, key in enumerate(order)}

    activating = {token for depth, token in members if depth == 0}
    ids = {key: i for i, key in enumerate(sorted(members))}
    nodes = tuple(
        GraphNode(
            graph_node_id=ids[key],
            depth=key[0],
            kind="context" if key[0] else "activating",
            token_id=key[1],
            importance=max(node.importance for node in members[key]),
            activation=max(node.activation for node in members[key]),
            is_end=any(node.node_id in ends for node in members[key]),
            component=number[representative[key]],
            is_core=(key[0] > 0 and key[1] not in activating and runs[key] == total[representative[key]]),
        )
        for key in ids
    )
    return NeuronGraph(nodes, tuple(GraphEdge(ids[a], ids[b], n) for (a, b), n in sorted(edges.items())))


def _path_keys(tokens: tuple[int, ...]) -> list[_Key]:
    literals = [token for token in tokens if token != IGNORE]
    return list(enumerate(literals))
