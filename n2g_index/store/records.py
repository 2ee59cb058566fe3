"""What does a build hand over for each neuron?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from n2g_index.graph.condensed import NeuronGraph
from n2g_index.graph.scoring import Score
from n2g_index.graph.trie import Trie

Status = Literal["ok", "dead", "failed"]


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A row of `models` and its vocabulary."""

    name: str
    n_layers: int
    d_mlp: int
    act_fn: str
    hook: str
    tokenizer: str
    vocab_size: int
    weights_sha256: str
    config: Mapping[str, Any]
    token_texts: tuple[str, ...]
    """Exact text of every token id."""


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """A row of `windows`."""

    corpus: str
    source: str
    start: int
    joins: tuple[tuple[int, str], ...]
    """Position and document of every further document that begins in the window."""

    tokens: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ExampleRecord:
    """A row of `examples`."""

    rank: int
    split: str
    window_id: int
    pivot: int
    max_activation: float
    activations: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LatticeRow:
    """A row of `lattices`."""

    lattice_id: int
    position: int
    token_id: int
    origin: Literal["original", "substitute"]
    probability: float | None
    activation: float
    kept: bool


@dataclass(frozen=True, slots=True)
class OptimumRow:
    """A row of `optima`."""

    lattice_id: int
    tokens: tuple[int, ...]
    activation: float
    original_activation: float
    exact: bool
    n_changes: int
    n_tried: int


@dataclass(frozen=True, slots=True)
class NeuronRecord:
    """Everything that an index holds about one neuron."""

    layer: int
    index: int
    status: Status
    error: str | None
    max_activation: float | None
    mean_activation: float | None
    density: float | None
    trie: Trie
    graph: NeuronGraph
    path_texts: tuple[str, ...]
    """Each path of the trie in reading order, for people."""

    lattices: tuple[LatticeRow, ...]
    optima: tuple[OptimumRow, ...]
    """One for each lattice."""

    examples: tuple[ExampleRecord, ...]
    scores: Mapping[str, Score]
    """Held-out score by method."""
