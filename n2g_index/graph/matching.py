"""Where, and how strongly, does a set of paths predict that a neuron fires?

Prediction follows DESIGN, section 2: the stored activation of the longest matching path, on ties the
larger one, 0 where none matches. Literal and ignore branches are both followed. Cost: for each path one
vectorised comparison per literal over all tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from n2g_index.graph.paths import IGNORE, Path


def predict(paths: Iterable[Path], windows: NDArray[np.integer]) -> NDArray[np.float32]:
    """Predict the normalised activation at every token.

    Args:
        paths: a neuron's paths.
        windows: token ids, shape [n_windows, n_tokens], in reading order and without BOS.

    Returns:
        float32 of the same shape.
    """
    predicted = np.zeros(windows.shape, dtype=np.float32)
    n_tokens = windows.shape[1]
    # Written in rising order of (length, activation), so that the winner is written last.
    for path in sorted(paths, key=lambda p: (len(p), p.activation)):
        reach = len(path) - 1
        if reach >= n_tokens:
            continue
        hit = windows[:, reach:] == path.tokens[0]
        for back, token in enumerate(path.tokens[1:], start=1):
            if token != IGNORE:
                hit &= windows[:, reach - back : n_tokens - back] == token
        predicted[:, reach:][hit] = path.activation
    return predicted
