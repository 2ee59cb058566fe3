"""Which tokens before the pivot does the neuron need?

Paper, section 3.1. Steps, for each example:
1. Start with the pivot alone and add the tokens before it one by one to the left.
2. Stop at the first length at which the pivot keeps `keep_threshold` of its activation in the whole window;
   at `max_context` tokens, stop anyway.
3. The rest of the pivot's sentence stays to its right. It cannot change the pivot (the model is causal), but
   the helper reads it, and tokens in it may fire themselves.

Lengths are tried in runs with an early exit after each, which gives the same answer as one by one. A run is
as short as fills a few batches: what it tries beyond the length that is found is wasted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.n2g.probe import Probe
from n2g_index.build.tokentree import Tokens
from n2g_index.config import N2GConfig

_BATCHES = 2
"""Batches that a run of lengths should fill, so that several cores have work."""

_SENTENCE_END = re.compile(r"[.!?\n]")


@dataclass(frozen=True, slots=True)
class Example:
    """One of a neuron's top windows."""

    neuron: int
    """Index within the layer."""

    rank: int
    """0 for the strongest window."""

    window_id: int
    tokens: Tokens
    """The whole window, shape [n_tokens], without BOS."""

    pivot: int
    """Position of the strongest token."""

    activations: NDArray[np.float32]
    """The neuron's activation at every token, shape [n_tokens]."""

    @property
    def split(self) -> str:
        """`train` and `test` alternate by rank, so that both halves are equally strong."""
        return "test" if self.rank % 2 else "train"

    @property
    def activation(self) -> float:
        """Activation at the pivot."""
        return float(self.activations[self.pivot])


@dataclass(frozen=True, slots=True)
class Context:
    """A minimal context with the rest of the pivot's sentence."""

    example: Example
    tokens: Tokens
    """Shape [pivot + 1 + rest]."""

    pivot: int
    """Position of the pivot in `tokens`."""

    kept: float
    """The pivot's activation in this context."""


def sentence_ends(token_texts: Sequence[str]) -> NDArray[np.bool_]:
    """For every token id, whether a sentence ends with it (its text holds . ! ? or a line break)."""
    return np.fromiter(
        (bool(_SENTENCE_END.search(t)) for t in token_texts), dtype=bool, count=len(token_texts)
    )


def sentence_rest(tokens: Tokens, pivot: int, ends: NDArray[np.bool_]) -> Tokens:
    """The tokens after the pivot up to the end of its sentence, the ending token included."""
    if ends[tokens[pivot]]:
        return tokens[:0]
    after = tokens[pivot + 1 :]
    found = np.flatnonzero(ends[after])
    return after[: found[0] + 1] if len(found) else after


def _next_lengths(done: int, longest: int, n_examples: int, batch_tokens: int) -> range:
    """The lengths to try next, after all up to `done`: a quarter as many, or what fills a few batches."""
    end, tokens = done, 0
    while end < min(longest, done + max(2, done // 4)) and tokens < _BATCHES * batch_tokens:
        end += 1
        tokens += n_examples * (end + 1)
    return range(done + 1, end + 1)


def prune(
    probe: Probe, examples: Sequence[Example], ends: NDArray[np.bool_], config: N2GConfig
) -> list[Context]:
    """Cut each example down to its minimal context; results are in the order of the examples."""
    open_ = list(range(len(examples)))
    found: dict[int, tuple[int, float]] = {}  # example -> (length, the pivot's activation there)
    done = 0
    while open_ and done < config.max_context:
        lengths = _next_lengths(done, config.max_context, len(open_), probe.batch_tokens)
        done = lengths[-1]
        tried: list[tuple[int, int]] = []
        for i in open_:
            example = examples[i]
            for length in lengths:
                start = example.pivot + 1 - length
                if start < 0:
                    break
                probe.ask(example.tokens[start : example.pivot + 1], example.neuron, (length - 1,))
                tried.append((i, length))
        for (i, length), values in zip(tried, probe.run(), strict=True):
            value, example = float(values[0]), examples[i]
            if i not in found and (
                value >= config.keep_threshold * example.activation
                or length == min(config.max_context, example.pivot + 1)
            ):
                found[i] = (length, value)
        open_ = [i for i in open_ if i not in found]
    return [_context(example, *found[i], ends) for i, example in enumerate(examples)]


def _context(example: Example, length: int, kept: float, ends: NDArray[np.bool_]) -> Context:
    minimal = example.tokens[example.pivot + 1 - length : example.pivot + 1]
    rest = sentence_rest(example.tokens, example.pivot, ends)
    return Context(example, np.concatenate([minimal, rest]), length - 1, kept)
