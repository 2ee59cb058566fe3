"""Which tokens could stand in a token's place? (paper, section 3.2)

A masked language model answers. Where it shares the target's tokenizer (as the embedded helper does) every
answer is exactly one token; otherwise contexts are handed over as text, and an answer counts when it is
exactly one token of the target in the place of the one that was masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.models.masked import MaskedLM
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
    batch_tokens: int = 4096
    _filler: MaskedLM = field(init=False)
    _known: dict[tuple[bytes, int, int, int, float], tuple[Candidate, ...]] = field(default_factory=dict)
    """Answers by masked context, place, original and limits: neurons share contexts."""

    def __post_init__(self) -> None:
        self._filler = MaskedLM(self.model)

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
        wanted = list(new)
        rows = [(new[key][0], new[key][1]) for key in wanted]
        for i, predictions in self._filler.fill(rows, limit + _SPARE, self.batch_tokens):
            original = new[wanted[i]][2]
            self._known[wanted[i]] = tuple(
                Candidate(token, weight)
                for token, weight in predictions
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
    batch_tokens: int = 4096
    _filler: MaskedLM = field(init=False)
    _texts: tuple[str, ...] = ()
    _ids: dict[str, int] = field(default_factory=dict)
    """Target token ids by their text."""

    def __post_init__(self) -> None:
        self._filler = MaskedLM(self.model)

    def propose(
        self, places: Sequence[Place], *, limit: int, min_probability: float
    ) -> list[tuple[Candidate, ...]]:
        if not self._texts:
            self._texts = self.target.token_texts()
            self._ids = {text: i for i, text in reversed(list(enumerate(self._texts)))}
        rows = [self._inputs(tokens, position) for tokens, position in places]
        found: list[tuple[Candidate, ...]] = [()] * len(places)
        # More spare: many a word piece is no single target token.
        for i, predictions in self._filler.fill(rows, limit + 4 * _SPARE, self.batch_tokens):
            tokens, position = places[i]
            likely = [(token, weight) for token, weight in predictions if weight >= min_probability]
            found[i] = self._map(likely, int(tokens[position]))[:limit]
        return found

    def _inputs(self, tokens: NDArray[np.int32], position: int) -> tuple[NDArray[np.int64], int]:
        """Helper tokens of the context with the place masked, and where the mask is."""
        left = "".join(self._texts[t] for t in tokens[:position])
        right = "".join(self._texts[t] for t in tokens[position + 1 :])
        room = min(self.tokenizer.model_max_length, int(self.model.config.max_position_embeddings)) - 3
        before = self.tokenizer.encode(left, add_special_tokens=False)[-(room // 2) :]
        after = self.tokenizer.encode(right, add_special_tokens=False)[: room - len(before)]
        first, last = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        row = [first, *before, self.tokenizer.mask_token_id, *after, last]
        inputs = np.array([token for token in row if token is not None], dtype=np.int64)
        return inputs, len(before) + (first is not None)

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
