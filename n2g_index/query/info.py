"""What is in this index, and how was it made?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from n2g_index.query.results import Results
from n2g_index.store.reader import Store


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One layer of a model."""

    layer: int
    neurons: int
    dead: int
    failed: int
    paths: int
    mean_paths: float
    mean_depth: float
    """Mean over neurons of the longest path's length beyond its activating token."""

    polysemantic: int
    """Neurons whose graph has more than one component."""


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index as a whole."""

    path: str
    format_version: int
    model: str
    hook: str
    corpus: dict[str, Any]
    helper: str
    finished: str
    parameters: dict[str, Any]
    versions: dict[str, str]
    bytes: int
    layers: Results[LayerInfo]


def get_info(store: Store) -> IndexInfo:
    """Read the manifest and count the tables."""
    model, hook = store.query("select name, hook from models").rows[0]
    versions, finished = store.query("select versions, finished::varchar from builds").rows[0]
    layers = store.query(
        "select layer, count(*), count(*) filter (status = 'dead'), count(*) filter (status = 'failed'), "
        "sum(n_paths)::bigint, avg(n_paths) filter (status = 'ok'), avg(max_depth) filter (status = 'ok'), "
        "count(*) filter (n_components > 1) from neurons group by layer order by layer"
    )
    rows = tuple(LayerInfo(*row) for row in layers.rows)
    manifest = store.manifest
    return IndexInfo(
        path=str(store.folder),
        format_version=manifest.format_version,
        model=model,
        hook=hook,
        corpus=manifest.corpus,
        helper=manifest.parameters["helper"],
        finished=finished,
        parameters=manifest.parameters,
        versions=orjson.loads(versions),
        bytes=sum(facts["bytes"] for facts in manifest.files.values()),
        layers=Results(rows, LayerInfo, len(rows)),
    )
