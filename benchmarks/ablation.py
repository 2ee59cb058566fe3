"""What does each ingredient of the refined method give?

    python -m benchmarks.ablation [--quick] [--json] [--every N]

Changes one thing at a time and scores the paths on the test examples of every live neuron of the embedded
model (of every N-th, with `--every`): mean F1 by layer, mean precision and recall, and paths per neuron. No
variant was chosen by this table; it says what the chosen one is made of.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import orjson
from numpy.typing import NDArray

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from n2g_index.build.collect import LayerActivity, collect
from n2g_index.build.models.transformer_lens import load_target
from n2g_index.build.n2g.prune import Example
from n2g_index.build.pipeline import read_windows
from n2g_index.build.progress import Silent
from n2g_index.build.refined.labelled import label, not_held_out
from n2g_index.build.refined.learn import learn
from n2g_index.build.scores import held_out_scores
from n2g_index.config import BuildConfig, RefinedConfig
from n2g_index.graph.paths import Path as TriePath
from n2g_index.graph.paths import merge_traces

_REFINED = "n2g_index.build.refined"


def _firing_share(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of a path's tokens that fire, shrunk towards its parent's, instead of the calibrated
    probability."""
    return 1 / (1 + np.exp(-features[:, 2]))


@dataclass(frozen=True, slots=True)
class Variant:
    """The refined method with something changed."""

    name: str
    config: RefinedConfig = field(default_factory=RefinedConfig)
    instead: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """Functions to put in the place of the method's own."""


VARIANTS = (
    Variant("as it is"),
    Variant("train examples only", RefinedConfig(windows=20)),
    Variant("40 windows", RefinedConfig(windows=40)),
    Variant("160 windows", RefinedConfig(windows=160)),
    Variant("no context", RefinedConfig(max_literals=0)),
    Variant("one literal", RefinedConfig(max_literals=1)),
    Variant("two literals", RefinedConfig(max_literals=2)),
    Variant("reach 3", RefinedConfig(reach=3)),
    Variant("reach 10", RefinedConfig(reach=10)),
    Variant("no place prior", RefinedConfig(place_prior=0)),
    Variant("gain of 0.3 nats", RefinedConfig(min_gain=0.3)),
    Variant("gain of 3 nats", RefinedConfig(min_gain=3)),
    Variant("noise 0.1", RefinedConfig(noise=0.1)),
    Variant("noise 0.4", RefinedConfig(noise=0.4)),
    Variant("cut at 0.5 for all", instead={f"{_REFINED}.learn.best_cut": lambda p: 0.5}),
    Variant("cut at 0.25 for all", instead={f"{_REFINED}.learn.best_cut": lambda p: 0.25}),
    Variant(
        "firing shares",
        instead={f"{_REFINED}.{m}.probabilities": _firing_share for m in ("learn", "calibrate")},
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One variant."""

    name: str
    f1: list[float]
    """By layer."""

    precision: float
    recall: float
    paths: float
    """Per neuron."""


def measure(config: BuildConfig, every: int) -> list[Row]:
    """One row per variant."""
    model = load_target(config.model)
    windows = read_windows(config, model, Silent())
    with TemporaryDirectory() as scratch:
        layers = collect(
            model, windows, range(model.info.n_layers), top=max(v.config.windows for v in VARIANTS),
            firing_threshold=config.n2g.firing_threshold, scratch=Path(scratch), batch_tokens=4096,
        )  # fmt: skip
        neurons = (config.neurons or range(model.info.d_mlp))[::every]
        rows = []
        for variant in VARIANTS:
            with ExitStack() as stack:
                for name, function in variant.instead.items():
                    stack.enter_context(patch(name, function))
                found = [
                    list(_scores([(n, layer.examples(n, windows)) for n in neurons], layer, variant, config))
                    for layer in layers.values()
                ]
            every_one = np.array([own for layer in found for own in layer])
            f1 = [float(np.mean([own[2] for own in layer])) for layer in found]
            precision, recall, _, paths = every_one.mean(axis=0).tolist()
            rows.append(Row(variant.name, f1, precision, recall, paths))
        return rows


def _scores(
    neurons: Sequence[tuple[int, Sequence[Example]]],
    layer: LayerActivity,
    variant: Variant,
    config: BuildConfig,
) -> Iterator[tuple[float, float, float, int]]:
    """Precision, recall, F1 and number of paths of every neuron with a test example."""
    alive = [(n, own) for n, own in neurons if own]
    largest = [float(layer.max_activation[n]) for n, _ in alive]
    paths = [_paths(own, m, variant, config) for (_, own), m in zip(alive, largest, strict=True)]
    examples = [own[: config.examples] for _, own in alive]
    threshold = config.n2g.firing_threshold
    scores = held_out_scores([{"refined": p} for p in paths], examples, largest, threshold)
    for own, found in zip(scores, paths, strict=True):
        if own:
            yield own["refined"].precision, own["refined"].recall, own["refined"].f1, len(found)


def _paths(
    top: Sequence[Example], max_activation: float, variant: Variant, config: BuildConfig
) -> tuple[TriePath, ...]:
    known = not_held_out(top[: variant.config.windows], config.examples)
    labelled = label(
        known, max_activation, n_examples=config.examples, reach=variant.config.reach,
        threshold=config.n2g.firing_threshold,
    )  # fmt: skip
    return merge_traces(learn(labelled, variant.config, config.n2g.firing_threshold))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a slice of the corpus, few neurons")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--every", type=int, default=1, help="take every N-th neuron")
    arguments = parser.parse_args()
    config = BuildConfig()
    if arguments.quick:
        config = BuildConfig(max_tokens=60_000, neurons=tuple(range(16)))
    rows = measure(config, arguments.every)
    if arguments.json:
        print(orjson.dumps({"rows": [asdict(row) for row in rows]}, option=orjson.OPT_INDENT_2).decode())
        return
    print("variant               F1 by layer                 precision  recall  paths")
    for row in rows:
        by_layer = "  ".join(f"{f1:.3f}" for f1 in row.f1)
        print(f"{row.name:<20}  {by_layer}  {row.precision:>9.3f}  {row.recall:>6.3f}  {row.paths:>5.1f}")


if __name__ == "__main__":
    main()
