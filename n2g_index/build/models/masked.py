"""What does a masked language model expect at one place of each row?

Its output layer knows the whole vocabulary and would run at every token, where one in thirty is asked about:
in the embedded helper that is a third of the work. A hook hands it only the places asked for.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.models.workers import side_by_side

if TYPE_CHECKING:
    import torch
    from torch import nn


Blank = tuple[NDArray[np.int64], int]
"""A row of token ids and the position to fill in it."""

Predictions = list[tuple[int, float]]
"""The likeliest ids and their probabilities, best first."""


class _Asked(threading.local):
    """What the pass of this thread asks for."""

    positions: torch.Tensor | None = None


class MaskedLM:
    """A Hugging Face masked LM, asked about one place per row."""

    def __init__(self, model: Any) -> None:
        """Put a hook before the output layer, where the model names one; it is at rest between passes."""
        self._model = model
        self._device = str(model.device)
        self._asked = _Asked()
        output = model.get_output_embeddings()
        if output is not None:
            output.register_forward_pre_hook(self._narrow)

    def fill(self, rows: Sequence[Blank], k: int, batch_tokens: int) -> Iterator[tuple[int, Predictions]]:
        """Answer each row, whatever its length, a batch of equal lengths at a time.

        Args:
            rows: what to fill.
            k: predictions per row.
            batch_tokens: tokens per pass.

        Yields:
            The number of a row and its k likeliest tokens.
        """
        by_length = defaultdict(list)
        for i, (inputs, _) in enumerate(rows):
            by_length[len(inputs)].append(i)
        parts = []
        for length, group in sorted(by_length.items()):
            size = max(1, batch_tokens // length)
            parts += [group[i : i + size] for i in range(0, len(group), size)]
        filled = side_by_side(lambda part: self._fill([rows[i] for i in part], k), parts, self._device)
        for part, predictions in zip(parts, filled, strict=True):
            yield from zip(part, predictions, strict=True)

    def _fill(self, rows: Sequence[Blank], k: int) -> list[Predictions]:
        """The same for rows of equal length."""
        import torch

        with torch.inference_mode():
            ids = torch.from_numpy(np.stack([inputs for inputs, _ in rows])).to(self._device)
            at = torch.tensor([position for _, position in rows], device=self._device)
            self._asked.positions = at
            try:
                logits = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            finally:
                self._asked.positions = None
            if logits.shape[1] != 1:  # the output layer was not narrowed
                logits = _at(logits, at)
            weights, best = logits[:, 0].float().softmax(-1).topk(min(k, logits.shape[-1]))
        pairs = zip(best.tolist(), weights.tolist(), strict=True)
        return [list(zip(*pair, strict=True)) for pair in pairs]

    def _narrow(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Hidden states [batch, seq, d_model] to [batch, 1, d_model]."""
        at = self._asked.positions
        if at is None or args[0].ndim != 3:
            return None
        return (_at(args[0], at), *args[1:])


def _at(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """One position of each row: [batch, seq, n] to [batch, 1, n]."""
    import torch

    return values[torch.arange(len(positions), device=values.device), positions][:, None]
