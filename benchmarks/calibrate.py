"""Fits the constants of the refined method: the weights in `build/refined/calibrate.py`.

    python -m benchmarks.calibrate [--quick] [--json] [--neurons N]

Looks at train examples only. For every neuron of the embedded model, each fifth of its train examples is left
out in turn: paths are grown without it, and each token in it gives one row, the features of its longest
matching path and whether it fires. One logistic regression over the rows of all layers gives the weights.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson
from numpy.typing import NDArray

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from n2g_index.build.collect import LayerActivity, collect
from n2g_index.build.models.transformer_lens import load_target
from n2g_index.build.pipeline import read_windows
from n2g_index.build.progress import Silent
from n2g_index.build.refined.calibrate import FEATURES, assign, features
from n2g_index.build.refined.grow import grow
from n2g_index.build.refined.labelled import Labelled, label, not_held_out
from n2g_index.build.windows import Windows
from n2g_index.config import BuildConfig, N2GConfig

Floats = NDArray[np.float64]

FOLDS = 5


def labelled_neurons(
    activity: LayerActivity, windows: Windows, neurons: range, config: N2GConfig, n_examples: int
) -> Iterator[Labelled]:
    """What each neuron's windows say, the test examples left out."""
    for neuron in neurons:
        known = not_held_out(activity.examples(neuron, windows), n_examples)
        if known:
            yield label(
                known, float(activity.max_activation[neuron]), n_examples=n_examples,
                reach=config.refined.reach, threshold=config.firing_threshold,
            )  # fmt: skip


def left_out_rows(labelled: Labelled, config: N2GConfig) -> tuple[Floats, NDArray[np.bool_]]:
    """Features and firing of every example token that a path matches which was grown without its window."""
    found, fires = [], []
    for fold in range(FOLDS):
        inside = labelled.example & (labelled.window % FOLDS == fold)
        leaves = assign(grow(labelled, ~inside, config.refined), labelled)
        matched = inside & (leaves.leaf >= 0)
        found.append(features(leaves, labelled, ~inside)[leaves.leaf[matched]])
        fires.append(labelled.fires[matched])
    return np.concatenate(found), np.concatenate(fires)


def fit(x: Floats, y: Floats) -> tuple[Floats, float, float]:
    """Weights, intercept and log-loss in nats of a logistic regression (Newton's method, a slight ridge).

    Args:
        x: shape [n_rows, n_features].
        y: 0 or 1, shape [n_rows].
    """
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    design = np.column_stack([np.ones(len(x)), (x - mean) / spread])
    ridge = 1e-5 * len(x) * np.eye(design.shape[1])
    solution = np.zeros(design.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-design @ solution))
        slope = design.T @ (y - p) - ridge @ solution
        curve = (design.T * (p * (1 - p))) @ design + ridge
        solution += np.linalg.solve(curve, slope)
    p = 1 / (1 + np.exp(-design @ solution))
    loss = -np.mean(np.where(y > 0, np.log(p), np.log1p(-p)))
    weights = solution[1:] / spread
    return weights, float(solution[0] - weights @ mean), float(loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a slice of the corpus, few neurons")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--neurons", type=int, default=768, help="neurons a layer")
    arguments = parser.parse_args()
    config = BuildConfig(max_tokens=60_000 if arguments.quick else None)
    model = load_target(config.model)
    windows = read_windows(config, model, Silent())
    rows: list[tuple[Floats, NDArray[np.bool_]]] = []
    with TemporaryDirectory() as scratch:
        activity = collect(
            model, windows, range(model.info.n_layers), top=config.collected_windows,
            firing_threshold=config.n2g.firing_threshold, scratch=Path(scratch), batch_tokens=4096,
        )  # fmt: skip
        neurons = range(min(model.info.d_mlp, 64 if arguments.quick else arguments.neurons))
        for layer in activity.values():
            known = labelled_neurons(layer, windows, neurons, config.n2g, config.examples)
            rows.extend(left_out_rows(labelled, config.n2g) for labelled in known)
    x = np.concatenate([found for found, _ in rows])
    y = np.concatenate([fires for _, fires in rows]).astype(np.float64)
    weights, intercept, loss = fit(x, y)
    result = {
        "weights": dict(zip(FEATURES, weights.round(3).tolist(), strict=True)),
        "intercept": round(intercept, 3),
        "log_loss": loss,
        "neurons": len(rows),
        "rows": len(x),
    }
    if arguments.json:
        print(orjson.dumps(result).decode())
    else:
        print(f"{len(x):,} tokens of {len(rows):,} neurons, log-loss {loss:.4f} nats")
        print(f"WEIGHTS = np.array({weights.round(3).tolist()})\nINTERCEPT = {intercept:.3f}")


if __name__ == "__main__":
    main()
