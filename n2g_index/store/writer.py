"""How do a build's results become tables?

`IndexWriter` owns the DuckDB file of a staging folder. Each chunk of neurons is one transaction: it is in the
tables whole or not at all. Rows go in as Arrow tables, column by column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import orjson

from n2g_index.config import neuron_name
from n2g_index.errors import MissingExtra
from n2g_index.graph.labels import fold
from n2g_index.resources import schema_sql
from n2g_index.store.fulltext import build_fulltext
from n2g_index.store.manifest import DATABASE, FULLTEXT, PATHS
from n2g_index.store.pathindex import build_path_index
from n2g_index.store.records import ModelRecord, NeuronRecord, WindowRecord
from n2g_index.store.staging import disk_errors

_MODEL_ID = 0
_BUILD_ID = 0

Rows = Iterator[tuple[Any, ...]]


class IndexWriter:
    """Writes the parts of an index into a staging folder."""

    def __init__(self, folder: Path, target: Path) -> None:
        """Create empty tables in `folder`; `target` is named when the disk is full."""
        self._folder, self._target = folder, target
        with disk_errors(target):
            self._db = duckdb.connect(str(folder / DATABASE))
            self._db.execute(schema_sql())

    def write_model(self, model: ModelRecord) -> None:
        """Write the rows of `models` and `tokens`."""
        row = (
            _MODEL_ID, model.name, model.n_layers, model.d_mlp, model.act_fn, model.hook, model.tokenizer,
            model.vocab_size, model.weights_sha256, _json(model.config),
        )  # fmt: skip
        self._transaction(
            [
                ("models", iter([row])),
                ("tokens", ((_MODEL_ID, i, t, fold(t)) for i, t in enumerate(model.token_texts))),
            ]
        )

    def write_windows(self, windows: Iterable[WindowRecord]) -> None:
        """Write the rows of `windows`, numbered from 0."""
        rows = (
            (
                i,
                w.corpus,
                w.source,
                w.start,
                [at for at, _ in w.joins],
                [name for _, name in w.joins],
                w.tokens,
            )
            for i, w in enumerate(windows)
        )
        self._transaction([("windows", rows)])

    def write_neurons(self, neurons: Sequence[NeuronRecord], d_mlp: int) -> None:
        """Write all rows of a chunk of neurons in one transaction."""
        chunk = [(neuron.layer * d_mlp + neuron.index, neuron) for neuron in neurons]

        def all_rows(rows: Callable[[int, NeuronRecord], Rows]) -> Rows:
            return (row for i, neuron in chunk for row in rows(i, neuron))

        self._transaction([(table, all_rows(rows)) for table, rows in _NEURON_TABLES.items()])

    def write_build(
        self, started: datetime, finished: datetime, versions: dict[str, str], parameters: dict[str, Any],
        counts: dict[str, int],
    ) -> None:  # fmt: skip
        """Write the row of `builds`."""
        row = (_BUILD_ID, started, finished, _json(versions), _json(parameters),
               counts["ok"], counts["dead"], counts["failed"])  # fmt: skip
        self._transaction([("builds", iter([row]))])

    def finish(self) -> None:
        """Write the full-text index and the path index, and close everything."""
        with disk_errors(self._target):
            build_fulltext(self._db, self._folder / FULLTEXT)
            build_path_index(self._db, self._folder / PATHS)
            self._db.execute("checkpoint")
            self._db.close()

    def close(self) -> None:
        """Give the files up, finished or not."""
        self._db.close()

    def _transaction(self, tables: Iterable[tuple[str, Rows]]) -> None:
        with disk_errors(self._target):
            self._db.execute("begin")
            try:
                for table, rows in tables:
                    self._insert(table, rows)
                self._db.execute("commit")
            except BaseException:
                with suppress(duckdb.Error):  # a commit that failed has ended the transaction itself
                    self._db.rollback()
                raise

    def _insert(self, table: str, rows: Rows) -> None:
        try:
            import pyarrow as pa
        except ImportError as error:
            raise MissingExtra("Writing an index", "build") from error
        columns = list(zip(*rows, strict=True))
        if not columns:
            return
        described = self._db.execute(f"describe {table}").fetchall()
        types = {name: _arrow_type(pa, kind) for name, kind, *_ in described}
        arrays = [pa.array(values, type=kind) for values, kind in zip(columns, types.values(), strict=True)]
        chunk = pa.Table.from_arrays(arrays, names=list(types))
        self._db.register("chunk", chunk)
        self._db.execute(f"insert into {table} select * from chunk")
        self._db.unregister("chunk")


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _arrow_type(pa: Any, kind: str) -> Any:
    """The Arrow type of a DuckDB column type, as far as the schema uses them."""
    if kind.endswith("[]"):
        return pa.list_(_arrow_type(pa, kind[:-2]))
    return {
        "INTEGER": pa.int32(),
        "BIGINT": pa.int64(),
        "FLOAT": pa.float32(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "VARCHAR": pa.string(),
        "JSON": pa.string(),
        "TIMESTAMP": pa.timestamp("us"),
    }[kind]


def _neuron_rows(i: int, n: NeuronRecord) -> Rows:
    kinds = [node.kind for node in n.trie.nodes]
    yield (
        i, _MODEL_ID, n.layer, n.index, neuron_name(n.layer, n.index), n.max_activation, n.mean_activation,
        n.density, len(n.examples), len(n.trie.paths), len(n.trie.nodes), kinds.count("activating"),
        kinds.count("context"), n.graph.n_components, n.trie.max_depth, n.status, n.error,
    )  # fmt: skip


def _node_rows(i: int, n: NeuronRecord) -> Rows:
    for node in n.trie.nodes:
        yield (i, node.node_id, node.parent_id, node.depth, node.kind, node.token_id, node.importance,
               node.activation, node.is_end, node.end_activation, node.support)  # fmt: skip


def _edge_rows(i: int, n: NeuronRecord) -> Rows:
    return ((i, node.parent_id, node.node_id) for node in n.trie.nodes if node.parent_id is not None)


def _graph_node_rows(i: int, n: NeuronRecord) -> Rows:
    for g in n.graph.nodes:
        yield (i, g.graph_node_id, g.depth, g.kind, g.token_id, g.importance, g.activation, g.is_end,
               g.component, g.is_core)  # fmt: skip


def _graph_edge_rows(i: int, n: NeuronRecord) -> Rows:
    return ((i, edge.src, edge.dst, edge.support) for edge in n.graph.edges)


def _path_rows(i: int, n: NeuronRecord) -> Rows:
    for path_id, (path, text) in enumerate(zip(n.trie.paths, n.path_texts, strict=True)):
        yield i, path_id, len(path), path.activation, path.support, path.tokens, path.fires, text


def _lattice_rows(i: int, n: NeuronRecord) -> Rows:
    for row in n.lattices:
        yield (i, row.lattice_id, row.position, row.token_id, row.origin, row.probability, row.activation,
               row.kept)  # fmt: skip


def _optimum_rows(i: int, n: NeuronRecord) -> Rows:
    for row in n.optima:
        yield (i, row.lattice_id, row.tokens, row.activation, row.original_activation, row.exact,
               row.n_changes, row.n_tried)  # fmt: skip


def _example_rows(i: int, n: NeuronRecord) -> Rows:
    for e in n.examples:
        yield i, e.rank, e.split, e.window_id, e.pivot, e.max_activation, e.activations


def _score_rows(i: int, n: NeuronRecord) -> Rows:
    for method, s in n.scores.items():
        yield (i, "test", method, s.tp, s.fp, s.fn, s.tn, s.precision, s.recall, s.f1, s.correlation)


_NEURON_TABLES: dict[str, Callable[[int, NeuronRecord], Rows]] = {
    "neurons": _neuron_rows,
    "nodes": _node_rows,
    "edges": _edge_rows,
    "graph_nodes": _graph_node_rows,
    "graph_edges": _graph_edge_rows,
    "paths": _path_rows,
    "lattices": _lattice_rows,
    "optima": _optimum_rows,
    "examples": _example_rows,
    "scores": _score_rows,
}
