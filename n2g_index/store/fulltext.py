"""Which neurons and paths hold a token?

A tantivy index with one document per neuron (its tokens by role) and one per path (its tokens in reading
order, so that phrases work), each with exact and folded token fields. A token is one word of such a field:
its text is percent-encoded, so that spaces, quotes and line breaks are ordinary characters. A query costs
time in the number of its hits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import duckdb
import tantivy

from n2g_index.errors import IndexIncomplete

Role = Literal["activating", "context"]
Match = Literal["exact", "folded"]

_HEAP = 64 << 20
_IGNORED = "*"
"""The word of an ignored position; percent-encoding never gives it."""

_NEURONS = """
    select n.neuron_id, n.layer, coalesce(s.f1, 0),
        list(distinct t.text) filter (g.kind = 'activating'),
        list(distinct t.norm) filter (g.kind = 'activating'),
        list(distinct t.text) filter (g.kind = 'context'),
        list(distinct t.norm) filter (g.kind = 'context')
    from neurons n
    join graph_nodes g using (neuron_id)
    join tokens t on t.model_id = n.model_id and t.token_id = g.token_id
    left join scores s on s.neuron_id = n.neuron_id and s.split = 'test' and s.method = 'n2g'
    group by all order by n.neuron_id
"""

_PATHS = """
    select p.neuron_id, p.path_id, n.model_id, p.tokens
    from paths p join neurons n using (neuron_id) order by p.neuron_id, p.path_id
"""


def _word(text: str) -> str:
    return quote(text, safe="")


def _words(texts: Iterable[str] | None) -> str:
    return " ".join(_word(text) for text in texts or () if text)


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for name in ("neuron_id", "path_id", "layer"):
        builder.add_unsigned_field(name, stored=False, indexed=True, fast=True)
    builder.add_float_field("f1", stored=False, indexed=True, fast=True)
    for name in ("activating", "activating_folded", "context", "context_folded"):
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="basic")
    for name in ("path", "path_folded"):
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="position")
    return builder.build()


def build_fulltext(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write the full-text index of the tables in `db` into a new folder."""
    folder.mkdir()
    index = tantivy.Index(_schema(), path=str(folder))
    writer = index.writer(heap_size=_HEAP, num_threads=1)
    for neuron_id, layer, f1, act, act_folded, ctx, ctx_folded in db.execute(_NEURONS).fetchall():
        document = tantivy.Document(
            activating=[_words(act)],
            activating_folded=[_words(act_folded)],
            context=[_words(ctx)],
            context_folded=[_words(ctx_folded)],
        )
        document.add_unsigned("neuron_id", neuron_id)
        document.add_unsigned("layer", layer)
        document.add_float("f1", f1)
        writer.add_document(document)
    texts = {(m, t): (text, norm) for m, t, text, norm in db.execute("select * from tokens").fetchall()}
    for neuron_id, path_id, model_id, tokens in db.execute(_PATHS).fetchall():
        pairs = [texts.get((model_id, token), (None, None)) for token in reversed(tokens)]
        document = tantivy.Document(
            path=[" ".join(_word(t) if t else _IGNORED for t, _ in pairs)],
            path_folded=[" ".join(_word(n) if n else _IGNORED for _, n in pairs)],
        )
        document.add_unsigned("neuron_id", neuron_id)
        document.add_unsigned("path_id", path_id)
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()


@dataclass(frozen=True, slots=True)
class Tier:
    """One way in which a neuron can hold a token."""

    match: Match
    role: Role

    def field(self) -> str:
        return self.role if self.match == "exact" else f"{self.role}_folded"


class FullText:
    """An opened full-text index."""

    def __init__(self, folder: Path) -> None:
        """Open it.

        Raises:
            IndexIncomplete: when its files are damaged.
        """
        try:
            self._index = tantivy.Index.open(str(folder))
            self._searcher = self._index.searcher()
        except ValueError as error:
            raise IndexIncomplete(
                f"The full-text index in {str(folder)!r} is damaged: build it again."
            ) from error
        self._schema = self._index.schema

    def neurons(
        self,
        tiers: Sequence[tuple[Tier, str]],
        *,
        layers: Sequence[int] | None,
        min_f1: float | None,
    ) -> list[list[int]]:
        """For each tier the ids of the neurons that hold its text and are in no earlier tier.

        Args:
            tiers: each with the text to find under it.
            layers: only these.
            min_f1: only neurons that score at least this.
        """
        found: list[list[int]] = []
        earlier: list[tuple[tantivy.Occur, tantivy.Query]] = []
        for tier, text in tiers:
            term = tantivy.Query.term_query(self._schema, tier.field(), _word(text))
            query = tantivy.Query.boolean_query(
                [(tantivy.Occur.Must, term), *earlier, *self._filters(layers, min_f1)]
            )
            hits = self._searcher.search(query, limit=max(self._searcher.num_docs, 1), count=False).hits
            ids = self._searcher.fast_field_values("neuron_id", [address for _, address in hits])
            found.append([int(i) for i in _flat(ids)])
            earlier.append((tantivy.Occur.MustNot, term))
        return found

    def _filters(
        self, layers: Sequence[int] | None, min_f1: float | None
    ) -> list[tuple[tantivy.Occur, tantivy.Query]]:
        must = []
        if layers is not None:
            any_of = [
                (tantivy.Occur.Should, tantivy.Query.term_query(self._schema, "layer", layer))
                for layer in layers
            ]
            must.append((tantivy.Occur.Must, tantivy.Query.boolean_query(any_of)))
        if min_f1 is not None:
            at_least = tantivy.Query.range_query(
                self._schema, "f1", tantivy.FieldType.Float, lower_bound=min_f1, upper_bound=None
            )
            must.append((tantivy.Occur.Must, at_least))
        return must


def _flat(values: Sequence[Any]) -> list[Any]:
    """Fast field values come one list per document; every document here has exactly one."""
    return [value[0] if isinstance(value, list | tuple) else value for value in values]
