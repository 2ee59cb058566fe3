"""How fast are all neurons matched against a text, without their model?

    python -m benchmarks.matching [--index demo.n2g] [--quick] [--json] [--tokens N]

Reads the tables of an existing index and measures, on one core: (a) building the path index from them into
a temporary folder; (b) all neurons on a text, with that path index mapped; (c) the same for 20 tokens in a
process that has matched nothing yet, as a command would; (d) scoring every neuron on its own test examples,
as a build does. The text is the index's own corpus: windows drawn at random, without replacement. Scores
are compared with those that the build wrote. `--quick` takes less text and every eighth neuron for (d).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import orjson
from numpy.typing import NDArray

from n2g_index.config import FIRING_THRESHOLD
from n2g_index.graph.matching import predict_each
from n2g_index.graph.paths import Path as TokenPath
from n2g_index.graph.scoring import score
from n2g_index.store.manifest import DATABASE
from n2g_index.store.pathindex import PathIndex, build_path_index

CHUNK = 256
"""Neurons scored together, as in a build."""

_FIRST_MATCH = """
import sys, time
from pathlib import Path
begun = time.perf_counter()
from n2g_index.store.pathindex import PathIndex
index = PathIndex(Path(sys.argv[1]))
import numpy as np
index.trie.match(np.array([[int(token) for token in sys.argv[2:]]]))
print(time.perf_counter() - begun)
"""


def open_tables(index: Path) -> duckdb.DuckDBPyConnection:
    """The tables alone: an index of an earlier format may have no path index."""
    db = duckdb.connect(":memory:")
    quoted = str(index / DATABASE).replace("'", "''")
    db.execute(f"attach '{quoted}' as neurons_db (read_only)")
    db.execute("use neurons_db")
    return db


def read_windows(db: duckdb.DuckDBPyConnection) -> NDArray[np.int32]:
    """All windows, [n_windows, n_tokens]."""
    return np.stack(db.execute("select tokens from windows order by window_id").fetchnumpy()["tokens"])


def measure_text(db: duckdb.DuckDBPyConnection, windows: NDArray[np.int32], n_tokens: int) -> dict[str, Any]:
    """Build the path index and match a text against all neurons."""
    rng = np.random.default_rng(0)
    text = windows[rng.permutation(len(windows))[: -(-n_tokens // windows.shape[1])]]
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "paths"
        begun = time.perf_counter()
        build_path_index(db, folder)
        build_seconds = time.perf_counter() - begun
        trie = PathIndex(folder).trie
        begun = time.perf_counter()
        matches = firing = 0
        for found in trie.blocks(text):
            matches += len(found)
            firing += int(np.count_nonzero(found.activation >= FIRING_THRESHOLD))
        seconds = time.perf_counter() - begun
        argv = [sys.executable, "-c", _FIRST_MATCH, str(folder), *map(str, text[0, :20].tolist())]
        first = float(subprocess.run(argv, capture_output=True, check=True).stdout)
        return {
            "neurons": len(np.unique(trie.owners)),
            "paths": trie.n_paths,
            "nodes": trie.n_nodes,
            "index_bytes": sum(file.stat().st_size for file in folder.iterdir()),
            "index_build_s": build_seconds,
            "text_tokens": text.size,
            "text_s": seconds,
            "text_tokens_per_s": text.size / seconds,
            "text_matches": matches,
            "text_firing": firing,
            "first_match_s": first,
        }


def measure_scores(db: duckdb.DuckDBPyConnection, windows: NDArray[np.int32], every: int) -> dict[str, Any]:
    """Predict and score neurons on their own test examples."""
    paths: dict[int, list[TokenPath]] = {}
    for neuron, tokens, activation in db.execute(
        "select neuron_id, tokens, activation from paths"
    ).fetchall():
        paths.setdefault(neuron, []).append(TokenPath(tuple(tokens), activation))
    test = db.execute(
        "select neuron_id, window_id, activations, n.max_activation as strongest "
        "from examples join neurons n using (neuron_id) where split = 'test' and neuron_id % ? = 0 "
        "order by neuron_id, rank",
        [every],
    ).fetchnumpy()
    written = {
        neuron: tuple(counts)
        for neuron, *counts in db.execute(
            "select neuron_id, tp, fp, fn, tn from scores where method = 'n2g' and split = 'test'"
        ).fetchall()
    }
    actual = np.stack(test["activations"]) / test["strongest"][:, None]
    neurons, first = np.unique(test["neuron_id"], return_index=True)
    spans = list(zip(neurons.tolist(), first.tolist(), [*first[1:].tolist(), len(actual)], strict=True))
    begun = time.perf_counter()
    predict_seconds, equal = 0.0, 0
    for at in range(0, len(spans), CHUNK):
        chunk = spans[at : at + CHUNK]
        rows = slice(chunk[0][1], chunk[-1][2])
        predict_begun = time.perf_counter()
        predicted = _predict(chunk, paths, windows[test["window_id"][rows]])
        predict_seconds += time.perf_counter() - predict_begun
        for neuron, start, end in chunk:
            s = score(predicted[start - rows.start : end - rows.start], actual[start:end], FIRING_THRESHOLD)
            equal += (s.tp, s.fp, s.fn, s.tn) == written[neuron]
    return {
        "scored_neurons": len(spans),
        "scored_tokens": actual.size,
        "predict_s": predict_seconds,
        "predict_tokens_per_s": actual.size / predict_seconds,
        "score_s": time.perf_counter() - begun - predict_seconds,
        "scores_as_written": equal,
    }


def _predict(
    chunk: Sequence[tuple[int, int, int]], paths: dict[int, list[TokenPath]], windows: NDArray[np.int32]
) -> NDArray[np.float32]:
    groups = [paths.get(neuron, []) for neuron, _, _ in chunk]
    rows = np.repeat(np.arange(len(chunk)), [end - start for _, start, end in chunk])
    predicted: NDArray[np.float32] = predict_each([groups], windows, rows)[0]
    return predicted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--index", type=Path, default=Path("demo.n2g"), help="a built index")
    parser.add_argument("--quick", action="store_true", help="less text, fewer neurons to score")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--tokens", type=int, default=100_000, help="length of the text")
    arguments = parser.parse_args()
    with open_tables(arguments.index) as db:
        windows = read_windows(db)
        n_tokens, every = (min(arguments.tokens, 20_000), 8) if arguments.quick else (arguments.tokens, 1)
        r = measure_text(db, windows, n_tokens) | measure_scores(db, windows, every)
    if arguments.json:
        print(orjson.dumps(r, option=orjson.OPT_INDENT_2).decode())
        return
    print(
        f"path index: {r['paths']:,} paths of {r['neurons']:,} neurons, {r['nodes']:,} nodes, "
        f"{r['index_bytes']:,} bytes, built in {r['index_build_s']:.2f} s\n"
        f"text: {r['text_tokens']:,} tokens in {r['text_s']:.2f} s ({r['text_tokens_per_s']:,.0f} tokens/s), "
        f"{r['text_matches']:,} matches, {r['text_firing']:,} of them firing; "
        f"20 tokens in a fresh process: {r['first_match_s'] * 1000:.0f} ms\n"
        f"scoring: {r['scored_neurons']:,} neurons on {r['scored_tokens']:,} tokens: "
        f"predict {r['predict_s']:.2f} s ({r['predict_tokens_per_s']:,.0f} tokens/s), "
        f"score {r['score_s']:.2f} s; counts as the build wrote them: {r['scores_as_written']:,}"
    )


if __name__ == "__main__":
    main()
