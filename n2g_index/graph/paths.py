"""What is a path, and when does one path stand for another?

A path is one way to make a neuron fire: the activating token first, then the tokens before it, walking
backwards. A position is a token id or `IGNORE`, which matches any token (paper, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

IGNORE = -1
"""Stands in a path for "any token"."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One observation of a path in one text, with what was measured at each of its positions."""

    tokens: tuple[int, ...]
    """Token ids or `IGNORE`, activating token first; the last one is never `IGNORE`."""

    importances: tuple[float, ...]
    """Importance of each position for the activating token (paper, section 3.2), as long as `tokens`."""

    activations: tuple[float, ...]
    """The neuron's own normalised activation at each position, as long as `tokens`."""

    activation: float
    """Normalised activation of the activating token."""

    support: int = 1
    """Number of firing tokens that this one stands for."""

    fires: bool = True
    """False for an exception: a longer path that keeps a shorter one from firing."""


@dataclass(frozen=True, slots=True)
class Path:
    """All observations of one token sequence, merged."""

    tokens: tuple[int, ...]
    """Token ids or `IGNORE`, activating token first."""

    activation: float
    """Largest normalised activation observed."""

    support: int = 1
    """Number of firing tokens observed; 0 for most exceptions."""

    fires: bool = True
    """False for an exception: where it is the longest match the neuron does not fire."""

    def __len__(self) -> int:
        return len(self.tokens)


def merge_traces(traces: Iterable[Trace]) -> tuple[Path, ...]:
    """Merge observations of equal tokens: largest activation, summed support; sorted by tokens."""
    merged: dict[tuple[int, ...], tuple[float, int, bool]] = {}
    for trace in traces:
        activation, support, fires = merged.get(trace.tokens, (trace.activation, 0, False))
        merged[trace.tokens] = (
            max(activation, trace.activation), support + trace.support, fires or trace.fires
        )  # fmt: skip
    return tuple(Path(tokens, *merged[tokens]) for tokens in sorted(merged))


def matches(path: Sequence[int], context: Sequence[int]) -> bool:
    """Whether `context` (tokens read backwards, the current one first) matches `path`.

    A context that is shorter than the path never matches: `IGNORE` stands for a token that exists.
    """
    return len(context) >= len(path) and all(p in (IGNORE, c) for p, c in zip(path, context, strict=False))


def generalises(general: Sequence[int], special: Sequence[int]) -> bool:
    """Whether every context that matches `special` also matches `general` (DESIGN, containment)."""
    return len(general) <= len(special) and all(
        g in (IGNORE, s) for g, s in zip(general, special, strict=False)
    )
