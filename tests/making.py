"""Writes small real indexes without a model: through the staging folder, the writer and the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from n2g_index.config import FORMAT_VERSION, BuildConfig
from n2g_index.graph.condensed import condense
from n2g_index.graph.labels import path_text
from n2g_index.graph.paths import IGNORE, Trace
from n2g_index.graph.scoring import Score
from n2g_index.graph.trie import build_trie
from n2g_index.store.manifest import Manifest, describe_files, write_manifest
from n2g_index.store.records import ExampleRecord, ModelRecord, NeuronRecord, OptimumRow, Status, WindowRecord
from n2g_index.store.staging import Staging, disk_errors
from n2g_index.store.writer import IndexWriter

Place = tuple[int, int]
"""(layer, index) of a neuron."""

STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FINISHED = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def trace(*tokens: int, activation: float = 1.0, importance: float = 0.875) -> Trace:
    """An observation; the activating token first, the neuron at 0.125 on every token before it."""
    before = len(tokens) - 1
    return Trace(tokens, (1.0, *[importance] * before), (activation, *[0.125] * before), activation)


def reading(vocabulary: Sequence[str], *texts: str | None, activation: float = 1.0) -> Trace:
    """An observation written as people read it; None for an ignored position."""
    ids = [IGNORE if text is None else vocabulary.index(text) for text in reversed(texts)]
    return trace(*ids, activation=activation)


def score_of(f1: float) -> Score:
    """A score with this F1 to three digits, precision and recall alike."""
    tp = round(f1 * 1000)
    return Score(tp, 1000 - tp, 1000 - tp, 7000, f1)


def write_index(
    folder: Path,
    neurons: Mapping[Place, Sequence[Trace]],
    vocabulary: Sequence[str],
    *,
    d_mlp: int = 8,
    n_layers: int = 3,
    f1: Mapping[Place, float] | None = None,
    max_activation: Mapping[Place, float] | None = None,
    windows: Sequence[Sequence[int]] = (),
    examples: Mapping[Place, Sequence[tuple[int, Sequence[float]]]] | None = None,
    optima: Mapping[Place, Sequence[OptimumRow]] | None = None,
    dead: Sequence[Place] = (),
    failed: Mapping[Place, str] | None = None,
    replace: bool = False,
) -> Path:
    """Build an index at `folder` and return it.

    Args:
        folder: where the index shall appear.
        neurons: what was observed of each neuron that is alive.
        vocabulary: text of every token id.
        d_mlp: neurons per layer.
        n_layers: layers of the model.
        f1: held-out F1 of some neurons, their token lookup gets half of it; the others have no scores.
        max_activation: 2.0 where it is not given.
        windows: token ids, all of one length.
        examples: window and raw activations, the strongest first; train and test take turns.
        optima: as they are stored; each belongs to the example whose rank is its lattice_id.
        dead: neurons without any positive activation.
        failed: the error of each neuron that failed.
        replace: whether an index that is there already may be replaced.
    """
    f1, max_activation, examples, failed = f1 or {}, max_activation or {}, examples or {}, failed or {}
    optima = optima or {}
    records = []
    for place in sorted({*neurons, *dead, *failed}):
        status: Status = "ok" if place in neurons else "dead" if place in dead else "failed"
        strongest = max_activation.get(place, 2.0)
        records.append(
            _record(
                place,
                status,
                neurons.get(place, ()),
                vocabulary,
                strongest=strongest if status == "ok" else None,
                f1=f1.get(place),
                examples=examples.get(place, ()),
                optima=optima.get(place, ()),
                error=failed.get(place),
            )
        )
    counts = {s: sum(r.status == s for r in records) for s in ("ok", "dead", "failed")}
    length = len(windows[0]) if windows else 0
    with Staging(folder, replace=replace) as staging:
        writer = IndexWriter(staging.folder, folder)
        try:
            model = ModelRecord(
                "toy", n_layers, d_mlp, "gelu", "blocks.{layer}.mlp.hook_post", "letters", len(vocabulary),
                "0" * 64, {"d_model": 4}, tuple(vocabulary),
            )  # fmt: skip
            writer.write_model(model)
            writer.write_windows(
                WindowRecord("toy", f"doc{i}", i * length, (), np.array(tokens, dtype=np.int32))
                for i, tokens in enumerate(windows)
            )
            writer.write_neurons(records, d_mlp)
            parameters = BuildConfig().parameters()
            writer.write_build(STARTED, FINISHED, {"n2g-index": "test"}, parameters, counts)
            writer.finish()
        finally:
            writer.close()
        n = len(windows)
        corpus = {"names": ["toy"], "windows": n, "window": length, "tokens": n * length}
        with disk_errors(folder):
            write_manifest(
                staging.folder,
                Manifest(
                    format_version=FORMAT_VERSION,
                    generation=1,
                    model={"name": "toy", "weights_sha256": "0" * 64},
                    corpus=corpus,
                    parameters=parameters,
                    files=describe_files(staging.folder),
                ),
            )
        staging.publish()
    return folder


def _record(
    place: Place,
    status: Status,
    traces: Sequence[Trace],
    vocabulary: Sequence[str],
    *,
    strongest: float | None,
    f1: float | None,
    examples: Sequence[tuple[int, Sequence[float]]],
    optima: Sequence[OptimumRow],
    error: str | None,
) -> NeuronRecord:
    trie = build_trie(traces)
    labels = [[None if t == IGNORE else vocabulary[t] for t in path.tokens] for path in trie.paths]
    shown = tuple(
        ExampleRecord(
            rank,
            "test" if rank % 2 else "train",
            window,
            int(np.argmax(values)),
            max(values),
            np.array(values, dtype=np.float32),
        )
        for rank, (window, values) in enumerate(examples)
    )
    return NeuronRecord(
        layer=place[0],
        index=place[1],
        status=status,
        error=error,
        max_activation=strongest,
        mean_activation=None if strongest is None else strongest / 8,
        density=None if strongest is None else 0.25,
        trie=trie,
        graph=condense(trie),
        path_texts=tuple(path_text(label) for label in labels),
        lattices=(),
        optima=tuple(optima),
        examples=shown,
        scores={} if f1 is None else {"n2g": score_of(f1), "token_lookup": score_of(f1 / 2)},
    )
