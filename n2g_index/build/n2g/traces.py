"""Which paths does a minimal context give?

Paper, section 3.3. For each firing token: itself, then walking backwards each token as a literal where it is
important and as ignore where it is not, down to the last important one. For each kept substitute: the paths
of the firing tokens that need the replaced position (or are it) and still fire, with the substitute there.
"""

from __future__ import annotations

from collections.abc import Iterator

from n2g_index.build.n2g.augment import Substitute
from n2g_index.build.n2g.saliency import Saliency
from n2g_index.config import N2GConfig
from n2g_index.graph.paths import IGNORE, Trace


def trace_paths(
    saliency: Saliency, substitutes: tuple[Substitute, ...], config: N2GConfig
) -> Iterator[Trace]:
    """Yield every path that this context and its kept substitutes show."""
    for j in saliency.firing:
        literal = frozenset((j, *saliency.important(j, config.importance_threshold)))
        yield _trace(saliency, j, literal)
        for substitute in substitutes:
            if not substitute.kept or substitute.position not in literal:
                continue
            if substitute.activations[j] * saliency.scale >= config.firing_threshold:
                yield _trace(saliency, j, literal, substitute)


def _trace(
    saliency: Saliency, j: int, literal: frozenset[int], substitute: Substitute | None = None
) -> Trace:
    """The path of firing position j, with one of its literals replaced or with none.

    A substitute has the importance of the token whose place it takes.
    """
    tokens = saliency.context.tokens.tolist()
    normalised = (saliency.activations * saliency.scale).tolist()
    if substitute is not None:
        tokens[substitute.position] = substitute.token_id
        for k in {j, substitute.position}:
            normalised[k] = substitute.activations[k] * saliency.scale
    back = range(j, min(literal) - 1, -1)
    return Trace(
        tokens=tuple(tokens[k] if k in literal else IGNORE for k in back),
        importances=tuple(float(saliency.importance[j][k]) for k in back),
        activations=tuple(normalised[k] for k in back),
        activation=normalised[j],
    )
