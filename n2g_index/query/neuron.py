"""What does one neuron do?

Reads a neuron's row, scores, trie, graph, optima and strongest examples. Each is one lookup by neuron_id, in
tables that are sorted by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from n2g_index.config import neuron_name, parse_neuron
from n2g_index.errors import NeuronNotFound
from n2g_index.graph.condensed import GraphEdge, GraphNode, NeuronGraph
from n2g_index.graph.paths import Path
from n2g_index.graph.trie import Trie, TrieNode
from n2g_index.query.results import Results
from n2g_index.store.reader import Store


@dataclass(frozen=True, slots=True)
class NeuronScore:
    """Held-out score of one method."""

    method: str
    precision: float
    recall: float
    f1: float
    correlation: float | None


@dataclass(frozen=True, slots=True)
class Optimum:
    """The combination of substitutes in one minimal context that drives the neuron hardest."""

    rank: int
    """Of the example that the minimal context was cut from."""

    tokens: tuple[str, ...]
    """Texts in reading order, the pivot last."""

    original: tuple[str, ...]
    """Texts of the unchanged minimal context."""

    substituted: tuple[int, ...]
    """Positions of the tokens that differ."""

    activation: float
    """Normalised; above 1 is above anything in the corpus."""

    original_activation: float
    """Normalised, of the unchanged minimal context."""

    exact: bool
    """Every combination was tried; else there may be a stronger one."""

    n_tried: int
    """Combinations."""


@dataclass(frozen=True, slots=True)
class Neuron:
    """A neuron with its graph."""

    neuron_id: int
    name: str
    model: str
    layer: int
    index: int
    status: str
    error: str | None
    max_activation: float | None
    mean_activation: float | None
    density: float | None
    """Share of the corpus' tokens on which it fires."""

    scores: tuple[NeuronScore, ...]
    trie: Trie
    graph: NeuronGraph
    labels: Mapping[int, str]
    """Text of every token in the trie."""

    path_texts: tuple[str, ...]
    """The trie's paths in reading order."""

    optima: tuple[Optimum, ...]
    """One for each minimal context with important tokens, the strongest first."""

    @property
    def optimum(self) -> Optimum | None:
        """The synthetic context that drives the neuron hardest; None where none was looked for."""
        return self.optima[0] if self.optima else None

    def score(self, method: str = "n2g") -> NeuronScore | None:
        """Held-out score of a method; None where there was nothing to score on."""
        return next((score for score in self.scores if score.method == method), None)


@dataclass(frozen=True, slots=True)
class Example:
    """One of a neuron's strongest windows."""

    rank: int
    split: str
    source: str
    """The document of the strongest token."""

    max_activation: float
    pivot: int
    """Position of the strongest token."""

    tokens: tuple[str, ...]
    """Texts of the window's tokens."""

    activations: tuple[float, ...]
    """Normalised activation at each of them."""

    fires: tuple[bool, ...]
    """Whether the neuron fires there, by the threshold of the build."""


def find_neuron(store: Store, name: str) -> int:
    """Return the neuron_id of `L3N15` or any of its spellings.

    Raises:
        BadNeuronName: when the text names no neuron.
        NeuronNotFound: when the index has no such neuron.
    """
    layer, index = parse_neuron(name)
    found = store.query('select neuron_id from neurons where layer = $1 and "index" = $2', (layer, index))
    if found.rows:
        return int(found.rows[0][0])
    model, n_layers, d_mlp = store.query("select name, n_layers, d_mlp from models").rows[0]
    if layer >= n_layers:
        raise NeuronNotFound(
            f"There is no {neuron_name(layer, index)}: {model} has layers 0 to {n_layers - 1}."
        )
    if index >= d_mlp:
        raise NeuronNotFound(
            f"There is no {neuron_name(layer, index)}: the layers of {model} have neurons 0 to {d_mlp - 1}."
        )
    raise NeuronNotFound(f"{neuron_name(layer, index)} was not built into this index.")


def get_neuron(store: Store, name: str) -> Neuron:
    """Read a neuron; raises as `find_neuron`."""
    i = find_neuron(store, name)
    facts = store.query(
        'select n.name, m.name as model, layer, "index", status, error, max_activation, mean_activation, '
        "density "
        "from neurons n join models m using (model_id) where neuron_id = $1",
        (i,),
    ).dicts()[0]
    scores = store.query(
        "select method, precision, recall, f1, correlation from scores "
        "where neuron_id = $1 and split = 'test' order by method = 'n2g' desc, method = 'token_lookup' desc",
        (i,),
    )
    paths = store.query(
        "select tokens, activation, support, fires, text from paths where neuron_id = $1 order by path_id",
        (i,),
    )
    nodes = store.query(
        "select node_id, parent_id, depth, kind, token_id, importance, activation, is_end, "
        "end_activation, support from nodes where neuron_id = $1 order by node_id",
        (i,),
    )
    graph_nodes = store.query(
        "select graph_node_id, depth, kind, token_id, importance, activation, is_end, component, is_core "
        "from graph_nodes where neuron_id = $1 order by graph_node_id",
        (i,),
    )
    graph_edges = store.query(
        "select src, dst, support from graph_edges where neuron_id = $1 order by src, dst", (i,)
    )
    labels = store.query(
        "select token_id, text from tokens t join neurons n using (model_id) where neuron_id = $1 "
        "and token_id in (select distinct token_id from nodes where neuron_id = $1)",
        (i,),
    )
    return Neuron(
        neuron_id=i,
        **facts,
        scores=tuple(NeuronScore(*score) for score in scores.rows),
        trie=Trie(
            tuple(Path(tuple(tokens), *numbers) for tokens, *numbers, _ in paths.rows),
            tuple(TrieNode(*node) for node in nodes.rows),
        ),
        graph=NeuronGraph(
            tuple(GraphNode(*node) for node in graph_nodes.rows),
            tuple(GraphEdge(*edge) for edge in graph_edges.rows),
        ),
        labels=dict(labels.rows),
        path_texts=tuple(row[4] for row in paths.rows),
        optima=_optima(store, i),
    )


def _optima(store: Store, neuron_id: int) -> tuple[Optimum, ...]:
    rows = store.query(
        "select lattice_id, o.tokens, "
        # Lists count from 1; the minimal context is as long as the optimum and ends at the pivot.
        '  list_slice(w.tokens, e."pivot" + 2 - len(o.tokens), e."pivot" + 1), '
        "  activation, original_activation, exact, n_tried "
        "from optima o join examples e on e.neuron_id = o.neuron_id and e.rank = o.lattice_id "
        "join windows w using (window_id) "
        "where o.neuron_id = $1 order by activation desc, lattice_id",
        (neuron_id,),
    ).rows
    used = sorted({token for _, *contexts, _, _, _, _ in rows for tokens in contexts for token in tokens})
    texts = dict(
        store.query(
            "select token_id, text from tokens t join neurons n using (model_id) where neuron_id = $1 "
            "and token_id in (select unnest($2::integer[]))",
            (neuron_id, used),
        ).rows
    )
    return tuple(
        Optimum(
            rank,
            tuple(texts[token] for token in tokens),
            tuple(texts[token] for token in original),
            tuple(k for k, (new, old) in enumerate(zip(tokens, original, strict=True)) if new != old),
            *numbers,
        )
        for rank, tokens, original, *numbers in rows
    )


def get_examples(store: Store, name: str, *, limit: int = 5, split: str | None = None) -> Results[Example]:
    """A neuron's strongest windows, strongest first; raises as `find_neuron`."""
    i = find_neuron(store, name)
    rows = store.query(
        'select rank, split, source, join_at, join_source, e.max_activation, e."pivot", '
        "  (select list(t.text order by u.at) from (select unnest(w.tokens) as token_id, "
        "     generate_subscripts(w.tokens, 1) as at) u join tokens t on t.token_id = u.token_id "
        "     and t.model_id = n.model_id) as texts, "
        "  list_transform(e.activations, lambda a: a / n.max_activation) "
        "from examples e join windows w using (window_id) join neurons n using (neuron_id) "
        "where neuron_id = $1 and ($2 is null or split = $2) order by rank",
        (i, split),
    ).rows
    threshold = store.manifest.parameters["n2g"]["firing_threshold"]
    examples = tuple(
        Example(
            rank,
            half,
            _source_at(pivot, source, joins),
            strongest,
            pivot,
            tuple(texts),
            tuple(activations),
            tuple(activation >= threshold for activation in activations),
        )
        for rank, half, source, *joins, strongest, pivot, texts, activations in rows[:limit]
    )
    return Results(examples, Example, len(rows))


def _source_at(position: int, first: str, joins: Sequence[Sequence[Any]]) -> str:
    """The document that a position of a window lies in, as several may share it."""
    later = [source for at, source in zip(*joins, strict=True) if at <= position]
    return later[-1] if later else first
