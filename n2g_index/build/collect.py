"""On which windows is each neuron strongest?

One pass over the corpus reads all layers at once and keeps, for every neuron, its top-K windows (exact, at
most one example per window, on ties the earlier window), the activation at each of their tokens, its max and
its mean. How often a neuron fires depends on its max, which is known only at the end: density is counted in
the top windows where it fires in no others, and else on an evenly spaced sample of windows.

Holds [K, n_neurons] numbers per layer in memory; the token-level activations, K x window floats per neuron,
live in a memory-mapped scratch file that the operating system pages out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.models.target import TargetModel
from n2g_index.build.n2g.probe import Tokens
from n2g_index.build.n2g.prune import Example
from n2g_index.build.windows import Windows

if TYPE_CHECKING:
    import torch

DENSITY_WINDOWS = 1024
"""Windows on which the density of common neurons is measured."""

_READING_BYTES = 512 << 20
"""Most memory for the activations of one pass, all layers together; a few passes are under way at once."""


@dataclass(frozen=True, slots=True)
class LayerActivity:
    """What the corpus showed of one layer; K slots per neuron, strongest first."""

    layer: int
    top_value: NDArray[np.float32]
    """Largest activation in each of the top windows, shape [K, d_mlp]; -inf where there is none."""

    top_window: NDArray[np.int64]
    """Window ids, shape [K, d_mlp]."""

    rows: NDArray[np.float32]
    """Activation at every token of each of those windows, shape [d_mlp, K, window], memory-mapped."""

    slot: NDArray[np.int64]
    """Where in `rows` each of them lies, shape [K, d_mlp]."""

    mean: NDArray[np.float64]
    """Over all tokens of the corpus, shape [d_mlp]."""

    density: NDArray[np.float64]
    """Share of tokens on which the neuron fires, shape [d_mlp]: exact for a neuron that fires in no more than
    its top windows, from a sample for others."""

    finite: NDArray[np.bool_]
    """False where the model gave NaN or infinity, shape [d_mlp]."""

    @property
    def max_activation(self) -> NDArray[np.float32]:
        """Shape [d_mlp]; 0 for a neuron that is positive nowhere."""
        strongest: NDArray[np.float32] = self.top_value[0].clip(min=0)
        return strongest

    def examples(self, neuron: int, windows: Windows) -> list[Example]:
        """A neuron's top windows, strongest first, as far as it is positive somewhere in them."""
        found = []
        for rank in range(len(self.top_value)):
            if not self.top_value[rank, neuron] > 0:
                break
            window_id = int(self.top_window[rank, neuron])
            activations = np.array(self.rows[neuron, self.slot[rank, neuron]])
            tokens: Tokens = windows.tokens[window_id]
            found.append(Example(neuron, rank, window_id, tokens, int(activations.argmax()), activations))
        return found


class _TopWindows:
    """The running top K windows of every neuron of one layer."""

    def __init__(self, layer: int, d_mlp: int, k: int, length: int, scratch: Path) -> None:
        self.layer = layer
        self.value = np.full((k, d_mlp), -np.inf, dtype=np.float32)
        self.window = np.full((k, d_mlp), np.iinfo(np.int64).max, dtype=np.int64)
        self.rows = _scratch_array(scratch / f"layer-{layer}.f32", (d_mlp, k, length))
        self.total = np.zeros(d_mlp, dtype=np.float64)
        self.n_tokens = 0
        self.floor = self.value.min(axis=0)  # what a window must beat, per neuron

    def add(self, first_window: int, activations: torch.Tensor) -> None:
        """Take in a batch of consecutive windows, [batch, window, d_mlp]."""
        import torch

        self.total += activations.sum(dim=(0, 1), dtype=torch.float64).cpu().numpy()
        self.n_tokens += activations.shape[0] * activations.shape[1]
        largest = activations.amax(dim=1).cpu().numpy()  # [batch, d_mlp]
        for i in range(len(largest)):
            # Windows come in rising order, so one that only equals the floor loses the tie.
            neurons = np.flatnonzero(largest[i] > self.floor)
            if not len(neurons):
                continue
            values, ids = self.value[:, neurons], self.window[:, neurons]
            weakest = values == values.min(axis=0)
            slot = np.where(weakest, ids, -1).argmax(axis=0)  # of equally weak ones the latest goes
            self.value[slot, neurons] = largest[i, neurons]
            self.window[slot, neurons] = first_window + i
            self.floor[neurons] = self.value[:, neurons].min(axis=0)
            index = torch.from_numpy(neurons).to(activations.device)
            self.rows[neurons, slot] = activations[i].index_select(1, index).T.cpu().numpy()

    def density(self, threshold: NDArray[np.float32], sampled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of all tokens at or above the threshold, as exactly as it can be known; all [d_mlp].

        A neuron whose weakest top window stays below the threshold fires in its top windows only, and these
        have been kept token by token. For others, what is seen there is the least that it can be.
        """
        fired = (self.rows >= threshold[:, None, None]).sum(axis=(1, 2)) / max(self.n_tokens, 1)
        known = np.where(self.floor < threshold, fired, np.maximum(fired, sampled))
        return np.where(threshold > 0, known, 0.0)

    def finish(self, density: NDArray[np.float64]) -> LayerActivity:
        order = np.lexsort((self.window, -self.value), axis=0)  # strongest first, earlier window on ties
        return LayerActivity(
            layer=self.layer,
            top_value=np.take_along_axis(self.value, order, axis=0),
            top_window=np.take_along_axis(self.window, order, axis=0),
            rows=self.rows,
            slot=order,
            mean=self.total / max(self.n_tokens, 1),
            density=density,
            finite=np.isfinite(self.total),
        )


def _scratch_array(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """A memory-mapped float32 array whose disk space is taken at once.

    A sparse file would be mapped gladly and kill the process with a signal where the disk turns out full.

    Raises:
        OSError: when there is no room for it.
    """
    with path.open("wb") as file:
        size = 4 * math.prod(shape)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:  # macOS
            file.write(bytes(size))
    return np.memmap(path, mode="r+", dtype=np.float32, shape=shape)


def collect(
    model: TargetModel,
    windows: Windows,
    layers: Sequence[int],
    *,
    top: int,
    firing_threshold: float,
    scratch: Path,
    batch_tokens: int,
    on_progress: Callable[[int], None] | None = None,
) -> Mapping[int, LayerActivity]:
    """Read the whole corpus once.

    Args:
        model: read through its hook.
        windows: the corpus, cut.
        layers: layers to read.
        top: K.
        firing_threshold: share of the max activation from which a token counts for density.
        scratch: existing folder for the token-level activations.
        batch_tokens: tokens per forward pass.
        on_progress: called with the number of windows done.
    """
    k = min(top, len(windows))
    tops = {
        layer: _TopWindows(layer, model.info.d_mlp, k, windows.length, scratch) for layer in sorted(layers)
    }
    batch_tokens = min(batch_tokens, max(1, _READING_BYTES // (4 * len(tops) * model.info.d_mlp)))
    first = 0
    for reading in model.layer_activations(sorted(layers), _batches(windows.tokens, batch_tokens)):
        for layer in sorted(layers):
            activations = reading.pop(layer)
            tops[layer].add(first, activations)
        first += len(activations)
        if on_progress:
            on_progress(first)
    threshold = {
        layer: firing_threshold * np.maximum(top.value.max(axis=0), 0) for layer, top in tops.items()
    }
    sampled = _sampled_density(model, windows, threshold, batch_tokens)
    return {layer: top.finish(top.density(threshold[layer], sampled[layer])) for layer, top in tops.items()}


def _batches(tokens: Tokens, batch_tokens: int) -> Iterator[Tokens]:
    size = max(1, batch_tokens // (tokens.shape[1] + 1))
    return (tokens[first : first + size] for first in range(0, len(tokens), size))


def _sampled_density(
    model: TargetModel, windows: Windows, threshold: Mapping[int, NDArray[np.float32]], batch_tokens: int
) -> dict[int, NDArray[np.float64]]:
    """Share of tokens at or above each neuron's threshold; 0 for neurons that are positive nowhere."""
    import torch

    n = min(len(windows), DENSITY_WINDOWS)
    sample = windows.tokens[np.linspace(0, len(windows) - 1, n).astype(np.int64)]
    fired = {layer: np.zeros(len(values), dtype=np.int64) for layer, values in threshold.items()}
    for reading in model.layer_activations(sorted(threshold), _batches(sample, batch_tokens)):
        for layer, activations in reading.items():
            bar = torch.from_numpy(threshold[layer]).to(activations.device)
            fired[layer] += (activations >= bar).sum(dim=(0, 1)).cpu().numpy()
    return {layer: np.where(threshold[layer] > 0, count / sample.size, 0.0) for layer, count in fired.items()}
