"""Is a neuron graph its trie without ignore nodes, equal tokens at equal depth merged?"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from n2g_index.graph.condensed import GraphEdge, GraphNode, NeuronGraph, condense
from n2g_index.graph.paths import IGNORE, Trace
from n2g_index.graph.trie import build_trie
from tests.making import trace


def graph(*traces: Trace) -> NeuronGraph:
    return condense(build_trie(traces))


def context(number: int, depth: int, token: int, *, end: bool, component: int = 0, core: bool) -> GraphNode:
    return GraphNode(number, depth, "context", token, 0.875, 0.125, end, component, core)


def activating(
    number: int, token: int, *, activation: float = 1.0, end: bool, component: int = 0
) -> GraphNode:
    return GraphNode(number, 0, "activating", token, 1.0, activation, end, component, False)


def test_no_paths_give_no_graph() -> None:
    assert graph() == NeuronGraph((), ())
    assert graph().n_components == 0


def test_ignored_positions_vanish_and_depth_counts_literals() -> None:
    assert graph(trace(5, IGNORE, IGNORE, 3, IGNORE, 2)) == NeuronGraph(
        (
            activating(0, 5, end=False),
            context(1, 1, 3, end=False, core=True),
            context(2, 2, 2, end=True, core=True),
        ),
        (GraphEdge(0, 1, 1), GraphEdge(1, 2, 1)),
    )


def test_equal_tokens_at_equal_depth_are_one_node() -> None:
    # 3 stands directly before 5, at a distance before 5, and before 6: one node, a core token
    assert graph(trace(5, 3), trace(5, IGNORE, 3, activation=0.5), trace(6, 3), trace(6, 3)) == NeuronGraph(
        (
            activating(0, 5, end=False),
            activating(1, 6, end=False),
            context(2, 1, 3, end=True, core=True),
        ),
        (GraphEdge(0, 2, 2), GraphEdge(1, 2, 2)),
    )


def test_merged_nodes_keep_the_largest_importance_and_activation() -> None:
    merged = graph(
        Trace((5, 3), (1.0, 0.75), (0.5, 0.25), 0.5),
        Trace((6, IGNORE, 3), (1.0, 0.5, 0.875), (1.0, 0.5, 0.375), 1.0),
    )
    assert merged.nodes[2] == GraphNode(2, 1, "context", 3, 0.875, 0.375, True, 0, True)


def test_components_are_numbered_by_support() -> None:
    found = graph(trace(1, 2), trace(3, 4), trace(3, 4, activation=0.5), trace(3, 5))
    assert found == NeuronGraph(
        (
            activating(0, 1, end=False, component=1),
            activating(1, 3, end=False),
            context(2, 1, 2, end=True, component=1, core=True),
            context(3, 1, 4, end=True, core=False),
            context(4, 1, 5, end=True, core=False),
        ),
        (GraphEdge(0, 2, 1), GraphEdge(1, 3, 2), GraphEdge(1, 4, 1)),
    )
    assert found.n_components == 2


def test_a_path_of_one_token_spoils_the_core() -> None:
    assert graph(trace(5), trace(5, 3)) == NeuronGraph(
        (activating(0, 5, end=True), context(1, 1, 3, end=True, core=False)), (GraphEdge(0, 1, 1),)
    )


def test_a_token_that_fires_the_neuron_elsewhere_is_no_core() -> None:
    found = graph(trace(5, 3), trace(6, 3), trace(3, 9))
    assert [(n.depth, n.token_id, n.is_core) for n in found.nodes] == [
        (0, 3, False),
        (0, 5, False),
        (0, 6, False),
        (1, 3, False),
        (1, 9, True),
    ]


def test_a_repeated_token_is_a_node_at_each_depth() -> None:
    assert graph(trace(5, 5, IGNORE, 5)) == NeuronGraph(
        (
            activating(0, 5, end=False),
            context(1, 1, 5, end=False, core=False),
            context(2, 2, 5, end=True, core=False),
        ),
        (GraphEdge(0, 1, 1), GraphEdge(1, 2, 1)),
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.integers(IGNORE, 3), max_size=4)).map(
            lambda p: trace(p[0], *p[1], *([2] if p[1] else []))
        ),
        max_size=6,
    )
)
def test_every_path_is_a_walk_through_one_component(traces: list[Trace]) -> None:
    trie = build_trie(traces)
    found = condense(trie)
    at = {(node.depth, node.token_id): node for node in found.nodes}
    assert len(at) == len(found.nodes)
    edges = {(edge.src, edge.dst): edge.support for edge in found.edges}
    walks = []
    for path in trie.paths:
        literals = [token for token in path.tokens if token != IGNORE]
        nodes = [at[depth, token] for depth, token in enumerate(literals)]
        assert len({node.component for node in nodes}) == 1
        assert nodes[-1].is_end
        walks.append((nodes, path.support))
    steps = [
        ((a.graph_node_id, b.graph_node_id), support) for nodes, support in walks for a, b in pairwise(nodes)
    ]
    assert edges == {step: sum(n for s, n in steps if s == step) for step, _ in steps}
    assert {node.graph_node_id for nodes, _ in walks for node in nodes} == set(range(len(found.nodes)))
    weights = [
        sum(support for nodes, support in walks if nodes[0].component == number)
        for number in range(found.n_components)
    ]
    assert weights == sorted(weights, reverse=True)
    assert sorted({node.component for node in found.nodes}) == list(range(found.n_components))
    fires = {node.token_id for node in found.nodes if node.depth == 0}
    for node in found.nodes:
        own = [nodes for nodes, _ in walks if nodes[0].component == node.component]
        assert node.is_core is (
            node.depth > 0 and node.token_id not in fires and all(node in nodes for nodes in own)
        )


def test_exceptions_are_left_out() -> None:
    exceptions = [replace(trace(5, 4, activation=0.25), fires=False), replace(trace(5, 3, 2), fires=False)]
    fires = [trace(5), trace(5, 3), trace(6, 4)]
    assert graph(*fires, *exceptions).edges == (GraphEdge(0, 2, 2), GraphEdge(1, 3, 1))
    assert [(n.depth, n.token_id, n.is_end) for n in graph(*fires, *exceptions).nodes] == [
        (0, 5, True),
        (0, 6, False),
        (1, 3, True),
        (1, 4, True),
    ]
    assert graph(*exceptions) == NeuronGraph((), ())
