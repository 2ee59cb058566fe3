"""The paper's N2G, transcribed literally: one neuron, one sequence, one forward pass at a time.

Slow on purpose and independent of `n2g_index.build.n2g` and `n2g_index.graph`: it decides what is correct.
Every pass runs the whole model and caches everything, as the authors' script does. It shares with the engine
only the inputs (examples, model, helper network) and the numbers in `N2GConfig`.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from n2g_index.config import N2GConfig

IGNORE = -1


@dataclass
class OracleExample:
    tokens: list[int]
    pivot: int
    activation: float


class Oracle:
    """N2G for single neurons of one model."""

    def __init__(
        self,
        bridge: Any,
        hook: str,
        bos: int,
        mask: int,
        texts: tuple[str, ...],
        helper: Any | None,
        helper_mask: int,
        barred: set[int],
        config: N2GConfig,
    ) -> None:
        self.bridge, self.hook, self.bos, self.mask, self.texts = bridge, hook, bos, mask, texts
        self.helper, self.helper_mask, self.barred, self.config = helper, helper_mask, barred, config
        self.tokens_forwarded = 0
        self.passes = 0

    def activations(self, layer: int, neuron: int, tokens: list[int]) -> list[float]:
        """The neuron's activation at each token."""
        with torch.no_grad():
            _, cache = self.bridge.run_with_cache(torch.tensor([[self.bos, *tokens]]))
        self.tokens_forwarded += len(tokens) + 1
        self.passes += 1
        values: list[float] = cache[self.hook.format(layer=layer)][0, 1:, neuron].tolist()
        return values

    def prune(self, layer: int, neuron: int, example: OracleExample) -> tuple[list[int], int, float]:
        """Minimal context with the rest of the sentence, the pivot's position, its activation there."""
        rest = []
        if not re.search(r"[.!?\n]", self.texts[example.tokens[example.pivot]]):
            for token in example.tokens[example.pivot + 1 :]:
                rest.append(token)
                if re.search(r"[.!?\n]", self.texts[token]):
                    break
        context: list[int] = []
        kept = 0.0
        for token in reversed(example.tokens[: example.pivot + 1]):
            context = [token, *context]
            kept = self.activations(layer, neuron, context)[-1]
            if kept >= self.config.keep_threshold * example.activation:
                break
            if len(context) == self.config.max_context:
                break
        return context + rest, len(context) - 1, kept

    def importances(
        self, layer: int, neuron: int, tokens: list[int], firing: list[int], base: list[float]
    ) -> dict[tuple[int, int], float]:
        """Importance of token k for firing token j, for every k up to j."""
        found = {}
        for k in range(len(tokens)):
            changed = tokens.copy()
            changed[k] = self.mask
            values = self.activations(layer, neuron, changed)
            for j in firing:
                if k <= j:
                    found[k, j] = 1 - values[j] / base[j]
        return found

    def substitutes(self, tokens: list[int], position: int) -> list[int]:
        """The helper's likeliest tokens for a place."""
        if self.helper is None:
            return []
        inputs = [self.bos, *tokens]
        inputs[position + 1] = self.helper_mask
        with torch.no_grad():
            probabilities = self.helper(input_ids=torch.tensor([inputs])).logits[0, position + 1].softmax(-1)
        ranked = torch.argsort(probabilities, descending=True, stable=True)[:64].tolist()
        likely = [
            token
            for token in ranked
            if float(probabilities[token]) >= self.config.substitute_probability
            and token != tokens[position]
            and token not in self.barred
        ]
        return likely[: self.config.max_substitutes]

    def optimum(
        self, layer: int, neuron: int, example: OracleExample
    ) -> tuple[list[int], float, float, dict[tuple[int, ...], float]]:
        """Algorithm 1, steps 10 to 12: the strongest combination of the important tokens' substitutes.

        Returns its tokens up to the pivot, its activation, the original's, and every combination's.
        """
        tokens, pivot, _ = self.prune(layer, neuron, example)
        base = self.activations(layer, neuron, tokens)
        importance = self.importances(layer, neuron, tokens, [pivot], base)
        choices = [
            [tokens[k], *self.substitutes(tokens, k)]
            if importance[k, pivot] >= self.config.importance_threshold
            else [tokens[k]]
            for k in range(pivot + 1)
        ]
        tried = {
            combination: self.activations(layer, neuron, [*combination, *tokens[pivot + 1 :]])[pivot]
            for combination in itertools.product(*choices)
        }
        best = max(tried, key=lambda combination: tried[combination])
        return list(best), tried[best], base[pivot], tried

    def paths(
        self, layer: int, neuron: int, examples: list[OracleExample], max_activation: float
    ) -> dict[tuple[int, ...], tuple[float, int]]:
        """Path -> (largest normalised activation, number of observations)."""
        config = self.config
        observed: list[tuple[tuple[int, ...], float]] = []
        for example in examples:
            tokens, pivot, kept = self.prune(layer, neuron, example)
            base = self.activations(layer, neuron, tokens)
            scale = example.activation / max(kept, config.keep_threshold * example.activation)
            normalised = [a * scale / max_activation for a in base]
            firing = [j for j, a in enumerate(normalised) if a >= config.firing_threshold]
            importance = self.importances(layer, neuron, tokens, firing, base)

            def literals(j: int, importance: Any = importance) -> list[int]:
                return [k for k in range(j + 1) if k == j or importance[k, j] >= config.importance_threshold]

            def path(j: int, text: list[int], literals: Any = literals) -> tuple[int, ...]:
                keep = literals(j)
                return tuple(text[k] if k in keep else IGNORE for k in range(j, min(keep) - 1, -1))

            observed += [(path(j, tokens), normalised[j]) for j in firing]
            if pivot not in firing:
                continue
            for k in range(pivot + 1):
                if importance[k, pivot] < config.importance_threshold:
                    continue
                for token in self.substitutes(tokens, k):
                    changed = tokens.copy()
                    changed[k] = token
                    values = self.activations(layer, neuron, changed)
                    if values[pivot] < config.keep_threshold * kept:
                        continue
                    for j in firing:
                        activation = values[j] * scale / max_activation
                        if k in literals(j) and activation >= config.firing_threshold:
                            observed.append((path(j, changed), activation))
        merged: dict[tuple[int, ...], tuple[float, int]] = {}
        for tokens_of_path, activation in observed:
            largest, count = merged.get(tokens_of_path, (0.0, 0))
            merged[tokens_of_path] = (max(largest, activation), count + 1)
        return merged


def predict(paths: dict[tuple[int, ...], tuple[float, int]], tokens: list[int]) -> list[float]:
    """Longest matching path at every token, larger activation on ties, 0 where none matches."""
    predictions = []
    for i in range(len(tokens)):
        backwards = tokens[i::-1]
        best = (0, 0.0)
        for path, (activation, _) in paths.items():
            if len(path) > len(backwards):
                continue
            if all(p in (IGNORE, c) for p, c in zip(path, backwards, strict=False)):
                best = max(best, (len(path), activation))
        predictions.append(best[1])
    return predictions


def f1(predicted: list[float], actual: list[float], threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of firing."""
    guess, truth = np.array(predicted) >= threshold, np.array(actual) >= threshold
    tp = float((guess & truth).sum())
    precision = tp / guess.sum() if guess.any() else 0.0
    recall = tp / truth.sum() if truth.any() else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if tp else 0.0
