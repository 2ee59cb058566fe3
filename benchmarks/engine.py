"""How much faster is the engine than the literal transcription of the paper?

    python -m benchmarks.engine [--quick] [--json] [--neurons N]

Runs, in one process and on the same random neurons of every layer of the embedded model, (a) the oracle from
`tests/`: one neuron, one sequence, one full forward pass with everything cached at a time, and (b) the engine
on whole layers as a build runs it. Prints neurons per second, tokens forwarded and passes by layer, the
ratio (b)/(a), the engine's share of time per stage and the peak memory. `--quick` takes fewer neurons and a
slice of the corpus; the engine has fewer neurons to share passes with then, so its ratio is lower.

Single neurons differ a hundredfold in cost, and the oracle can only be given a few. So the engine is timed on
the oracle's neurons alone, too: `same_neurons_ratio` compares equal work, but leaves the engine small batches
and nobody to share them with. What a build gains lies between the two.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from n2g_index.build import neurons as neurons_module
from n2g_index.build.collect import LayerActivity, collect
from n2g_index.build.models.helper import SharedTokenizerHelper, load_helper
from n2g_index.build.models.transformer_lens import load_target
from n2g_index.build.n2g.probe import ProbeStats
from n2g_index.build.neurons import Explainer
from n2g_index.build.pipeline import read_windows
from n2g_index.build.progress import Silent
from n2g_index.build.windows import Windows
from n2g_index.config import BuildConfig, N2GConfig
from tests.oracle import Oracle, OracleExample

BATCH_TOKENS = 4096
"""As a build takes on a CPU."""

STAGES = (
    "prune", "measure_saliency", "find_substitutes", "find_optima", "build_trie", "condense",
    "held_out_scores",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One layer."""

    layer: int
    oracle_neurons: int
    oracle_neurons_per_s: float
    oracle_tokens_per_neuron: float
    oracle_passes_per_neuron: float
    engine_neurons: int
    engine_neurons_per_s: float
    engine_tokens_per_neuron: float
    engine_passes_per_neuron: float
    ratio: float
    same_neurons_ratio: float
    """The same on the oracle's neurons alone, for both."""

    stages: dict[str, float]
    """Share of the engine's time."""


def measure(config: BuildConfig, sample: int) -> list[Row]:
    """Time both on every layer; `sample` neurons a layer for the oracle."""
    model = load_target(config.model)
    helper = load_helper(config.helper, model, model.device)
    assert isinstance(helper, SharedTokenizerHelper)
    windows = read_windows(config, model, Silent())
    texts = model.token_texts()
    rng = np.random.default_rng(0)
    rows = []
    with TemporaryDirectory() as scratch:
        activity = collect(
            model, windows, range(model.info.n_layers), top=config.collected_windows,
            firing_threshold=config.n2g.firing_threshold, scratch=Path(scratch),
            batch_tokens=BATCH_TOKENS,
        )  # fmt: skip
        for layer in range(model.info.n_layers):
            explainer = Explainer(
                model, helper, windows, texts, config.n2g, config.examples, BATCH_TOKENS, ProbeStats()
            )
            numbers = config.neurons or tuple(range(model.info.d_mlp))
            seconds, stages = _engine(explainer, activity[layer], numbers, config.chunk)
            oracle = Oracle(
                model.bridge, model.info.hook, model.info.bos_id, model.info.mask_id, texts, helper.model,
                helper.mask_id, set(helper.barred), config.n2g,
            )  # fmt: skip
            chosen = sorted(rng.choice(numbers, sample, replace=False).tolist())
            oracle_seconds = _oracle(oracle, activity[layer], chosen, windows)
            # A helper of its own: the one above remembers what it said of these neurons.
            fresh = load_helper(config.helper, model, model.device)
            small = Explainer(
                model, fresh, windows, texts, config.n2g, config.examples, BATCH_TOKENS, ProbeStats()
            )
            small_seconds, _ = _engine(small, activity[layer], tuple(chosen), config.chunk)
            rows.append(
                _row(layer, chosen, oracle, oracle_seconds, small_seconds, numbers, explainer.stats, seconds,
                     stages)
            )  # fmt: skip
    return rows


def _row(
    layer: int, chosen: list[int], oracle: Oracle, oracle_seconds: float, small_seconds: float,
    numbers: tuple[int, ...], stats: ProbeStats, seconds: float, stages: dict[str, float],
) -> Row:  # fmt: skip
    slow, fast = len(chosen) / oracle_seconds, len(numbers) / seconds
    return Row(
        layer, len(chosen), slow, oracle.tokens_forwarded / len(chosen), oracle.passes / len(chosen),
        len(numbers), fast, stats.tokens_run / len(numbers), stats.batches / len(numbers), fast / slow,
        oracle_seconds / small_seconds, stages,
    )  # fmt: skip


def _engine(
    explainer: Explainer, activity: LayerActivity, numbers: tuple[int, ...], chunk: int
) -> tuple[float, dict[str, float]]:
    """Seconds for all neurons, and the share of each stage."""
    with _timed() as spent:
        begun = time.perf_counter()
        for first in range(0, len(numbers), chunk):
            explainer.explain(activity, numbers[first : first + chunk])
        seconds = time.perf_counter() - begun
    return seconds, {name: spent[name] / seconds for name in STAGES}


@contextmanager
def _timed() -> Iterator[dict[str, float]]:
    """Measure the functions that the engine calls for each stage."""
    spent = dict.fromkeys(STAGES, 0.0)
    originals: dict[str, Any] = {name: getattr(neurons_module, name) for name in STAGES}

    def timed(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return originals[name](*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - begun

        return call

    for name in STAGES:
        setattr(neurons_module, name, timed(name))
    try:
        yield spent
    finally:
        for name, original in originals.items():
            setattr(neurons_module, name, original)


def _oracle(oracle: Oracle, activity: LayerActivity, chosen: list[int], windows: Windows) -> float:
    """Seconds for the chosen neurons, their model passes included and nothing shared between them."""
    begun = time.perf_counter()
    for neuron in chosen:
        examples = [
            OracleExample(example.tokens.tolist(), example.pivot, example.activation)
            for example in activity.examples(neuron, windows)
            if example.split == "train"
        ]
        oracle.paths(activity.layer, neuron, examples, float(activity.max_activation[neuron]))
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a slice of the corpus, few neurons")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--neurons", type=int, default=10, help="neurons a layer for the oracle")
    arguments = parser.parse_args()
    paper = N2GConfig(method="paper")  # what the oracle transcribes
    config = BuildConfig(n2g=paper)
    if arguments.quick:
        config = BuildConfig(max_tokens=60_000, neurons=tuple(range(96)), n2g=paper)
    rows = measure(config, 1 if arguments.quick else arguments.neurons)
    n = sum(row.engine_neurons for row in rows)
    slow = len(rows) / sum(1 / row.oracle_neurons_per_s for row in rows)
    fast = n / sum(row.engine_neurons / row.engine_neurons_per_s for row in rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "linux" else 30))
    result = {"ratio": fast / slow, "oracle_neurons_per_s": slow, "engine_neurons_per_s": fast,
              "peak_memory_gib": peak, "layers": [asdict(row) for row in rows]}  # fmt: skip
    if arguments.json:
        print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
        return
    for row in rows:
        print(
            f"layer {row.layer}: oracle {row.oracle_neurons_per_s:.3f} neurons/s "
            f"({row.oracle_tokens_per_neuron:,.0f} tokens, {row.oracle_passes_per_neuron:,.0f} passes each), "
            f"engine {row.engine_neurons_per_s:.1f} neurons/s ({row.engine_tokens_per_neuron:,.0f} tokens, "
            f"{row.engine_passes_per_neuron:.2f} passes each), ratio {row.ratio:.0f}, "
            f"on the same neurons {row.same_neurons_ratio:.0f}; "
            + ", ".join(f"{name} {share:.0%}" for name, share in row.stages.items())
        )
    print(
        f"all: oracle {slow:.3f}, engine {fast:.1f} neurons/s, ratio {fast / slow:.0f}; peak {peak:.2f} GiB"
    )


if __name__ == "__main__":
    main()
