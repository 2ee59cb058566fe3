"""What does a build need to know of the model whose neurons it explains?

A narrow seam: collect and N2G know a model only as this. `transformer_lens.py` is the implementation for
everything that TransformerLens 4 opens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an index records of its model (table `models`)."""

    name: str
    n_layers: int
    d_mlp: int
    """Neurons per layer."""

    act_fn: str
    hook: str
    """TransformerLens hook that is read, with `{layer}` in place of the layer."""

    tokenizer: str
    vocab_size: int
    n_ctx: int
    """Longest sequence the model reads, BOS included."""

    bos_id: int
    """Put before every sequence."""

    mask_id: int
    """Stands in for a masked token when importance is measured: the tokenizer's padding token, or where
    there is none its unknown or end-of-text token."""

    weights_sha256: str
    config: dict[str, Any]
    """The model's own configuration, as far as it is plain data."""


@dataclass(frozen=True, slots=True)
class Tree:
    """How the tokens of a batch follow each other where its rows are not plain sequences.

    Token i of a row comes after token j of it (and after BOS) when j <= i < end[j].
    """

    depth: NDArray[np.int32]
    """How many tokens each comes after, BOS left out, shape [batch, seq]."""

    end: NDArray[np.int32]
    """Where the run of tokens that come after each one stops, shape [batch, seq]."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Token sequences that are run together, and what is asked about them."""

    tokens: NDArray[np.int32]
    """Shape [batch, seq], without BOS (it is put before each row)."""

    row: NDArray[np.int64]
    position: NDArray[np.int64]
    neuron: NDArray[np.int64]
    """The values asked for are those at (row, position, neuron), all of shape [n]."""

    tree: Tree | None = None
    """None where every token follows the one before it."""


class TargetModel(Protocol):
    """A causal language model whose MLP neurons can be read."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def runs_trees(self) -> bool:
        """Whether a batch may have a tree."""
        ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without BOS or other added tokens."""
        ...

    def token_texts(self) -> tuple[str, ...]:
        """The exact text of every token id; bytes that are no whole character appear as `\\xNN`."""
        ...

    def activations(self, layer: int, tokens: NDArray[np.int32]) -> torch.Tensor:
        """Neuron activations of one layer; the forward pass stops there.

        Args:
            layer: from 0.
            tokens: shape [batch, seq], without BOS (it is put before each row).

        Returns:
            float32 tensor [batch, seq, d_mlp] on the model's device; BOS is left out.
        """
        ...

    def values(self, layer: int, batches: Iterable[Batch]) -> Iterator[NDArray[np.float32]]:
        """Some of the values that `activations` gives: for each batch those it asks for, shape [n].

        Batches may run side by side; the answers come in their order.
        """
        ...

    def layer_activations(
        self, layers: Sequence[int], batches: Iterable[NDArray[np.int32]]
    ) -> Iterator[dict[int, torch.Tensor]]:
        """As `activations`, for several batches and several layers, each batch in a single forward pass.

        Batches may run side by side; the answers, by layer, come in their order.
        """
        ...
