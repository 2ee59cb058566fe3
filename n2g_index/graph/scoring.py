"""How well does a prediction agree with the neuron?

The paper scores firing as a two-class problem on held-out examples (section 4) and compares with two
lookup tables; both tables are sets of literal paths, so that one matcher predicts for all three methods.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from n2g_index.graph.paths import Path

NGRAM = 5
"""Length of the n-gram baseline."""


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of tokens; a ratio whose denominator is 0 counts as 0, as in the paper's tables."""

    tp: int
    fp: int
    fn: int
    tn: int
    correlation: float | None
    """Pearson correlation of predicted and real normalised activation; None where one is constant."""

    @property
    def precision(self) -> float:
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        return _f1(self.precision, self.recall)


def score(predicted: NDArray[np.float32], actual: NDArray[np.float32], threshold: float) -> Score:
    """Compare normalised activations of any equal shape; a token fires at `threshold` or above."""
    guess, truth = predicted >= threshold, actual >= threshold
    tp = int(np.count_nonzero(guess & truth))
    fp = int(np.count_nonzero(guess)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return Score(tp, fp, fn, guess.size - tp - fp - fn, _correlation(predicted, actual))


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float | None:
    if not a.size:
        return None
    x, y = (v.ravel().astype(np.float64) - v.mean(dtype=np.float64) for v in (a, b))
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else None


def lookup_paths(
    windows: NDArray[np.integer], actual: NDArray[np.float32], threshold: float, n: int
) -> tuple[Path, ...]:
    """The lookup-table baselines: every n-gram that ends in a firing token, with its largest activation.

    Args:
        windows: token ids, shape [n_windows, n_tokens].
        actual: normalised activations, same shape.
        threshold: activation from which a token fires.
        n: 1 for token lookup, `NGRAM` for the n-gram table.
    """
    largest: dict[tuple[int, ...], float] = {}
    support: dict[tuple[int, ...], int] = {}
    rows, columns = np.nonzero(actual >= threshold)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if column + 1 < n:
            continue
        gram = tuple(windows[row, column + 1 - n : column + 1][::-1].tolist())
        largest[gram] = max(largest.get(gram, 0.0), float(actual[row, column]))
        support[gram] = support.get(gram, 0) + 1
    return tuple(Path(gram, largest[gram], support[gram]) for gram in sorted(largest))
