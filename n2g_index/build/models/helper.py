"""Which tokens could stand in a token's place? (paper, section 3.2)

A masked language model answers. Where it shares the target's tokenizer (as the embedded helper does) every
answer is exactly one token; otherwise contexts are handed over as text, and an answer counts when it is
exactly one token of the target in the place of the one that was masked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.models.transformer_lens import EMBEDDED, TransformerLensModel, load_whole, quiet, reason
from n2g_index.errors import MissingExtra, ModelError
from n2g_index.resources import embedded_helper

DEFAULT_HELPER = "distilbert-base-uncased"
_SPARE = 8
"""How many more predictions than asked for are looked at, as some are the original or not one token."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that the helper proposes, with its probability."""

    token_id: int
    probability: float


_REMEMBERED = 100_000
"""Answers kept before starting over."""

Place = tuple[NDArray[np.int32], int]
"""A context (target tokens without BOS) and the position to fill."""


class Helper(Protocol):
    """Proposes tokens of the target's vocabulary for a place in a context."""

    name: str

    def propose(
        self, places: Sequence[Place], *, limit: int, min_probability: float
    ) -> list[tuple[Candidate, ...]]:
        """For each place the likeliest tokens, best first, the original left out."""
        ...


@dataclass(slots=True)
class SharedTokenizerHelper:
    """A masked LM with the target's own tokenizer."""

    name: str
    model: Any
    bos_id: int
    mask_id: int
    barred: frozenset[int]
    """Special tokens, never proposed."""

    max_length: int
    batch_tokens: int = 8192
    _known: dict[tuple[bytes, int, int, int, float], tuple[Candidate, ...]] = field(default_factory=dict)
    """Answers by masked context, place, original and limits: neurons share contexts."""

    def propose(
        self, places: Sequence[Place], *, limit: int, min_probability: float
    ) -> list[tuple[Candidate, ...]]:
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        keys, new = [], {}
        for tokens, position in places:
            inputs, at = self._inputs(tokens, position)
            key = (inputs.tobytes(), at, int(tokens[position]), limit, min_probability)
            keys.append(key)
            if key not in self._known:
                new[key] = (inputs, at, int(tokens[position]))
        by_length = defaultdict(list)
        for key, (inputs, at, original) in new.items():
            by_length[len(inputs)].append((key, inputs, at, original))
        for length, group in sorted(by_length.items()):
            size = max(1, self.batch_tokens // length)
            for i in range(0, len(group), size):
                part = group[i : i + size]
                ids, probabilities = top_predictions(
                    self.model, np.stack([g[1] for g in part]), [g[2] for g in part], limit + _SPARE
                )
                for (key, _, _, original), row, weights in zip(part, ids, probabilities, strict=True):
                    self._known[key] = tuple(
                        Candidate(token, weight)
                        for token, weight in zip(row, weights, strict=True)
                        if weight >= min_probability and token != original and token not in self.barred
                    )[:limit]
        return [self._known[key] for key in keys]

    def _inputs(self, tokens: NDArray[np.int32], position: int) -> tuple[NDArray[np.int64], int]:
        """BOS and the context with the place masked, cut to what the helper can read around it."""
        room = self.max_length - 1
        start = max(0, min(position - room // 2, len(tokens) - room))
        inputs = np.concatenate([[self.bos_id], tokens[start : start + room]]).astype(np.int64)
        inputs[position - start + 1] = self.mask_id
        return inputs, position - start + 1


@dataclass(slots=True)
class TextHelper:
    """A masked LM with a tokenizer of its own, such as DistilBERT."""

    name: str
    model: Any
    tokenizer: Any
    target: TransformerLensModel
    batch: int = 64
    _texts: tuple[str, ...] = ()
    _ids: dict[str, int] = field(default_factory=dict)
    """Target token ids by their text."""

    def propose(
        self, places: Sequence[Place], *, limit: int, min_probability: float
    ) -> list[tuple[Candidate, ...]]:
        if not self._texts:
            self._texts = self.target.token_texts()
            self._ids = {text: i for i, text in reversed(list(enumerate(self._texts)))}
        inputs, at = [], []
        for tokens, position in places:
            row, mask = self._inputs(tokens, position)
            inputs.append(row)
            at.append(mask)
        found: list[tuple[Candidate, ...]] = [()] * len(places)
        by_length = defaultdict(list)
        for i, row in enumerate(inputs):
            by_length[len(row)].append(i)
        for _, group in sorted(by_length.items()):
            for start in range(0, len(group), self.batch):
                part = group[start : start + self.batch]
                ids, probabilities = top_predictions(
                    self.model,
                    np.array([inputs[i] for i in part], dtype=np.int64),
                    [at[i] for i in part],
                    limit + 4 * _SPARE,  # more spare: many a word piece is no single target token
                )
                for i, row, weights in zip(part, ids, probabilities, strict=True):
                    tokens, position = places[i]
                    likely = [(t, w) for t, w in zip(row, weights, strict=True) if w >= min_probability]
                    found[i] = self._map(likely, int(tokens[position]))[:limit]
        return found

    def _inputs(self, tokens: NDArray[np.int32], position: int) -> tuple[list[int], int]:
        """Helper tokens of the context with the place masked, and where the mask is."""
        left = "".join(self._texts[t] for t in tokens[:position])
        right = "".join(self._texts[t] for t in tokens[position + 1 :])
        room = min(self.tokenizer.model_max_length, int(self.model.config.max_position_embeddings)) - 3
        before = self.tokenizer.encode(left, add_special_tokens=False)[-(room // 2) :]
        after = self.tokenizer.encode(right, add_special_tokens=False)[: room - len(before)]
        first, last = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        row = [first, *before, self.tokenizer.mask_token_id, *after, last]
        return [token for token in row if token is not None], len(before) + (first is not None)

    def _map(self, predictions: Sequence[tuple[int, float]], original: int) -> tuple[Candidate, ...]:
        """Predictions as single target tokens, spaced and capitalised like the original."""
        text = self._texts[original]
        space = text[: len(text) - len(text.lstrip())]
        kept: dict[int, Candidate] = {}
        for token, probability in predictions:
            if token in self.tokenizer.all_special_ids:
                continue
            piece = self.tokenizer.convert_ids_to_tokens(token)
            if space and piece.startswith("##"):
                continue  # the inside of a word cannot begin one
            word = piece.removeprefix("##").replace("Ġ", "").replace("▁", "")
            word = word.title() if text.strip().istitle() else word
            found = self._ids.get(space + word)
            if found is not None and found != original and found not in kept:
                kept[found] = Candidate(found, probability)
        return tuple(kept.values())


def top_predictions(
    model: Any, inputs: NDArray[np.int64], positions: Sequence[int], k: int
) -> tuple[list[list[int]], list[list[float]]]:
    """The k likeliest ids and their probabilities at one position of each row of `inputs` [batch, seq]."""
    import torch

    with torch.inference_mode():
        ids = torch.from_numpy(inputs).to(model.device)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        rows = logits[torch.arange(len(positions)), torch.as_tensor(positions)].float()
        weights, best = rows.softmax(-1).topk(min(k, rows.shape[-1]))
    return best.tolist(), weights.tolist()


def load_helper(name: str, target: TransformerLensModel, device: str) -> Helper | None:
    """Open the helper for a target.

    Args:
        name: `none`, `auto` (the embedded one for the embedded model, else DistilBERT), a folder or hub name.
        target: the model whose tokens are to be replaced.
        device: where to put it.

    Raises:
        ModelError: when it cannot be opened.
    """
    if name == "none":
        return None
    if name == "auto":
        name = EMBEDDED if target.info.name == EMBEDDED else DEFAULT_HELPER
    folder = embedded_helper() if name == EMBEDDED else Path(name)
    source = str(folder) if folder.exists() else name
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtra("Reading a helper model", "build") from error
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source)
            model = load_whole("AutoModelForMaskedLM", source).eval().to(device)
        except ModelError:
            raise
        except Exception as error:  # the loaders raise whatever their backends raise
            raise ModelError(
                f"The helper {name!r} cannot be opened ({reason(error)}); "
                "name a local masked LM with --helper DIR, or build without substitutes: --helper none."
            ) from error
    if tokenizer.mask_token_id is None:
        raise ModelError(f"The helper {name!r} has no mask token: it is not a masked language model.")
    if tokenizer.get_vocab() != target.tokenizer.get_vocab():
        return TextHelper(name, model, tokenizer, target)
    return SharedTokenizerHelper(
        name=name,
        model=model,
        bos_id=target.info.bos_id,
        mask_id=tokenizer.mask_token_id,
        barred=frozenset(tokenizer.all_special_ids) | {target.info.bos_id, target.info.mask_id},
        max_length=int(model.config.max_position_embeddings),
    )
