"""Which other tokens would have done as well?

Paper, section 3.2. Steps, for each minimal context:
1. Mask each token that is important for the pivot (the pivot itself too) and let the helper, a masked LM,
   propose tokens for its place: at most `max_substitutes`, each of at least `substitute_probability`.
2. Put each proposal into the context and read the neuron again.
3. Keep it where the pivot keeps `keep_threshold` of its activation in the minimal context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from n2g_index.build.models.helper import Helper
from n2g_index.build.n2g.probe import Probe
from n2g_index.build.n2g.saliency import Saliency, masked
from n2g_index.config import N2GConfig


@dataclass(frozen=True, slots=True)
class Substitute:
    """A token tried in another's place."""

    position: int
    token_id: int
    probability: float
    """What the helper gave it."""

    activations: Mapping[int, float]
    """Raw activation with it in place: at `position` itself and at every firing position behind it."""

    kept: bool
    """The pivot kept enough of its activation."""


def find_substitutes(
    probe: Probe, saliencies: Sequence[Saliency], helper: Helper | None, config: N2GConfig
) -> list[tuple[Substitute, ...]]:
    """Try the helper's substitutes in each context; without a helper there are none."""
    if helper is None or config.max_substitutes == 0:
        return [()] * len(saliencies)
    places = [
        (i, k)
        for i, saliency in enumerate(saliencies)
        if saliency.context.pivot in saliency.importance
        for k in saliency.important(saliency.context.pivot, config.importance_threshold)
    ]
    proposals = helper.propose(
        [(saliencies[i].context.tokens, k) for i, k in places],
        limit=config.max_substitutes,
        min_probability=config.substitute_probability,
    )
    tried = []
    for (i, k), candidates in zip(places, proposals, strict=True):
        saliency = saliencies[i]
        tokens = saliency.context.tokens[: saliency.firing[-1] + 1]  # the pivot fires, so this holds it
        positions = sorted({k, *(j for j in saliency.firing if j >= k)})
        for candidate in candidates:
            probe.ask(masked(tokens, k, candidate.token_id), saliency.context.example.neuron, positions)
            tried.append((i, k, candidate, positions))
    found: list[list[Substitute]] = [[] for _ in saliencies]
    for (i, k, candidate, positions), values in zip(tried, probe.run(), strict=True):
        context = saliencies[i].context
        activations = dict(zip(positions, values.tolist(), strict=True))
        kept = activations[context.pivot] >= config.keep_threshold * context.kept
        found[i].append(Substitute(k, candidate.token_id, candidate.probability, activations, kept))
    return [tuple(substitutes) for substitutes in found]
