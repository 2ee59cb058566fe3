"""Which tokens of a minimal context matter to each token that fires in it?

Paper, section 3.2. Steps, for each minimal context:
1. Read the neuron at every token. Pruning may cost up to half of the pivot's activation; activations are
   scaled back by what it cost (as the authors' code does) and divided by the neuron's max activation.
2. The tokens that fire are the activating tokens, the pivot among them or not.
3. Mask each token k in turn; the importance of k for a firing token j is 1 - a_j(k masked) / a_j.

A token cannot matter to one before it, so token k is masked only in the run of tokens up to the last firing
one, and not at all behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.n2g.probe import Probe
from n2g_index.build.n2g.prune import Context
from n2g_index.build.tokentree import Tokens
from n2g_index.config import N2GConfig


@dataclass(frozen=True, slots=True)
class Saliency:
    """A minimal context with what matters in it."""

    context: Context
    scale: float
    """Turns an activation in this context into a normalised one."""

    activations: NDArray[np.float32]
    """Raw activation at every token, shape [n_tokens]."""

    firing: tuple[int, ...]
    """Positions that fire, rising."""

    importance: Mapping[int, NDArray[np.float32]]
    """For each firing position j, the importance of tokens 0..j for it, shape [j + 1]."""

    def important(self, j: int, threshold: float) -> tuple[int, ...]:
        """Positions of the tokens that are important for firing position j."""
        return tuple(np.flatnonzero(self.importance[j] >= threshold).tolist())


def masked(tokens: Tokens, position: int, mask_id: int) -> Tokens:
    """A copy of the tokens with one of them masked."""
    copy = tokens.copy()
    copy[position] = mask_id
    return copy


def measure_saliency(
    probe: Probe,
    contexts: Sequence[Context],
    max_activation: NDArray[np.float32],
    mask_id: int,
    config: N2GConfig,
) -> list[Saliency]:
    """Measure importances in each context.

    Args:
        probe: answers for the contexts' layer.
        contexts: from `prune`.
        max_activation: of every neuron of the layer, shape [d_mlp].
        mask_id: token that stands in for a masked one.
        config: gives the firing threshold.
    """
    for context in contexts:
        probe.ask(context.tokens, context.example.neuron, range(len(context.tokens)))
    readings = probe.run()
    scales, firings = [], []
    for context, values in zip(contexts, readings, strict=True):
        scale = _scale(context, float(max_activation[context.example.neuron]), config)
        firing = np.flatnonzero(values * np.float32(scale) >= np.float32(config.firing_threshold))
        scales.append(scale)
        firings.append(tuple(firing.tolist()))
        for k in range(firing[-1] + 1 if len(firing) else 0):
            tokens = masked(context.tokens[: firing[-1] + 1], k, mask_id)
            probe.ask(tokens, context.example.neuron, firing[firing >= k].tolist())
    answers = iter(probe.run())
    saliencies = []
    for context, values, scale, firing_at in zip(contexts, readings, scales, firings, strict=True):
        importance = {j: np.zeros(j + 1, dtype=np.float32) for j in firing_at}
        for k in range(firing_at[-1] + 1 if firing_at else 0):
            behind = [j for j in firing_at if j >= k]
            for j, lowered in zip(behind, next(answers), strict=True):
                importance[j][k] = 1.0 - lowered / values[j]
        saliencies.append(Saliency(context, scale, values, firing_at, importance))
    return saliencies


def _scale(context: Context, max_activation: float, config: N2GConfig) -> float:
    # Where `max_context` ended the search, less than `keep_threshold` may be left; scaling all of that back
    # would make every weak token beside the pivot look as if it fired.
    kept = max(context.kept, config.keep_threshold * context.example.activation)
    return context.example.activation / kept / max_activation
