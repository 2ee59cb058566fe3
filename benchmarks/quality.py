"""How well do a neuron's paths predict it, and how well do the paper's and the two lookup tables?

    python -m benchmarks.quality [--quick] [--json]

Takes every live neuron of the embedded model. Per layer and method: precision, recall and F1 of firing
tokens, as means over neurons of each neuron's own (as in the paper), the F1 of the median neuron, and the
share of neurons above 0.8. On two kinds of text that no method has seen: the held-out test examples, which
are half of a neuron's strongest windows; and random windows of the corpus, the neuron's collected ones left
out, where firing is rare and weak and top examples flatter nobody. Of the random windows only neurons count
that fire in them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from n2g_index.build.collect import LayerActivity, collect
from n2g_index.build.models.helper import load_helper
from n2g_index.build.models.target import TargetModel
from n2g_index.build.models.transformer_lens import load_target
from n2g_index.build.n2g.probe import ProbeStats
from n2g_index.build.neurons import Candidate, Explainer
from n2g_index.build.pipeline import read_windows
from n2g_index.build.progress import Silent
from n2g_index.build.scores import held_out_scores
from n2g_index.build.windows import Windows
from n2g_index.config import BuildConfig
from n2g_index.graph.merged import MergedTrie, PathTable

BATCH_TOKENS = 4096
METHODS = ("n2g", "n2g_paper", "token_lookup", "ngram_lookup")
RANDOM_WINDOWS = 1024

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One method on one layer."""

    layer: int
    method: str
    text: Literal["test examples", "random windows"]
    neurons: int
    precision: float
    recall: float
    f1: float
    median_f1: float
    above_0_8: float


def measure(config: BuildConfig, n_random: int) -> list[Row]:
    """All rows, layer by layer."""
    model = load_target(config.model)
    windows = read_windows(config, model, Silent())
    explainer = Explainer(
        model, load_helper(config.helper, model, model.device), windows, model.token_texts(), config.n2g,
        config.examples, BATCH_TOKENS, ProbeStats(),
    )  # fmt: skip
    n_random = min(n_random, len(windows))
    random = np.sort(np.random.default_rng(0).choice(len(windows), n_random, replace=False))
    rows: list[Row] = []
    with TemporaryDirectory() as scratch:
        activity = collect(
            model, windows, range(model.info.n_layers), top=config.collected_windows,
            firing_threshold=config.n2g.firing_threshold, scratch=Path(scratch), batch_tokens=BATCH_TOKENS,
        )  # fmt: skip
        neurons = config.neurons or range(model.info.d_mlp)
        for layer in activity.values():
            found = [
                candidate
                for first in range(0, len(neurons), config.chunk)
                for candidate in explainer.candidates(layer, neurons[first : first + config.chunk])
                if candidate.found
            ]
            rows += _rows(layer.layer, "test examples", _on_test_examples(found, layer, config))
            counts = _on_random_windows(found, layer, model, windows, random, config)
            rows += _rows(layer.layer, "random windows", counts)
    return rows


def _on_test_examples(found: Sequence[Candidate], layer: LayerActivity, config: BuildConfig) -> Numbers:
    """True positives, false positives and false negatives, shape [3, n_methods, n_neurons]."""
    scores = held_out_scores(
        [c.methods for c in found], [c.windows[: config.examples] for c in found],
        [float(layer.max_activation[c.neuron]) for c in found], config.n2g.firing_threshold,
    )  # fmt: skip
    own = [[by_method[m] for m in METHODS] for by_method in scores if by_method]
    return np.array([[[s.tp, s.fp, s.fn] for s in methods] for methods in own], dtype=np.float64).T


def _on_random_windows(
    found: Sequence[Candidate], layer: LayerActivity, model: TargetModel, windows: Windows,
    random: NDArray[np.int64], config: BuildConfig,
) -> Numbers:  # fmt: skip
    """The same counts on the random windows, for the neurons that fire in them."""
    threshold = np.float32(config.n2g.firing_threshold)
    neurons = np.array([c.neuron for c in found])
    trie = MergedTrie.build(PathTable.of(c.methods[m] for m in METHODS for c in found))
    seen = np.array(
        [np.isin(random, [w.window_id for w in c.windows]) for c in found]
    )  # [n_neurons, n_random]
    counts = np.zeros((3, len(METHODS), len(found)))
    for at, actual in _activations(model, layer.layer, windows, random):
        fires = (
            actual[:, :, neurons] / layer.max_activation[neurons] >= threshold
        )  # [batch, window, n_neurons]
        fresh = ~seen[:, at].T[:, None]
        guess = np.zeros((len(METHODS), *fires.shape), dtype=np.bool_)
        for matches in trie.blocks(windows.tokens[random[at]]):
            method, neuron = np.divmod(matches.owner, len(found))
            guess[method, matches.window, matches.position, neuron] = matches.activation >= threshold
        for k, which in enumerate((guess & fires, guess & ~fires, ~guess & fires)):
            counts[k] += (which & fresh).sum(axis=(1, 2))
    return counts[:, :, counts[0, 0] + counts[2, 0] > 0]


def _activations(
    model: TargetModel, layer: int, windows: Windows, random: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Batches of the random windows and the layer's activations there, [batch, window, d_mlp]."""
    for at in np.array_split(np.arange(len(random)), max(1, len(random) // 16)):
        yield at, model.activations(layer, windows.tokens[random[at]]).cpu().numpy()


def _rows(layer: int, text: Literal["test examples", "random windows"], counts: Numbers) -> Iterator[Row]:
    if not counts.size:
        return
    for name, (tp, fp, fn) in zip(METHODS, counts.swapaxes(0, 1), strict=True):
        precision, recall = tp / np.maximum(tp + fp, 1), tp / np.maximum(tp + fn, 1)
        f1 = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
        yield Row(
            layer, name, text, len(tp), float(precision.mean()), float(recall.mean()), float(f1.mean()),
            float(np.median(f1)), float((f1 > 0.8).mean()),
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a slice of the corpus, few neurons")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    config, n_random = BuildConfig(), RANDOM_WINDOWS
    if arguments.quick:
        config, n_random = BuildConfig(max_tokens=60_000, neurons=tuple(range(32))), 64
    rows = measure(config, n_random)
    if arguments.json:
        print(orjson.dumps({"rows": [asdict(row) for row in rows]}, option=orjson.OPT_INDENT_2).decode())
        return
    print("layer  method        text            neurons  precision  recall     F1  median F1  above 0.8")
    for row in rows:
        print(
            f"{row.layer:>5}  {row.method:<12}  {row.text:<14}  {row.neurons:>7}  {row.precision:>9.3f}  "
            f"{row.recall:>6.3f}  {row.f1:>5.3f}  {row.median_f1:>9.3f}  {row.above_0_8:>9.3f}"
        )


if __name__ == "__main__":
    main()
