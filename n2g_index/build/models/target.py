"""What does a build need to know of the model whose neurons it explains?

A narrow seam: collect and N2G know a model only as this. `transformer_lens.py` is the implementation for
everything that TransformerLens 4 opens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class TargetModel(Protocol):
    """A causal language model whose MLP neurons can be read."""

    @property
    def info(self) -> ModelInfo: ...

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

    def values(
        self,
        layer: int,
        tokens: NDArray[np.int32],
        row: NDArray[np.int64],
        position: NDArray[np.int64],
        neuron: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Some of the values that `activations` gives: at (row, position, neuron), all of shape [n]."""
        ...

    def layer_activations(
        self, layers: Sequence[int], tokens: NDArray[np.int32]
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """As `activations`, for several layers from a single forward pass, in rising order."""
        ...
