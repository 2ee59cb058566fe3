"""Does the lattice's optimum drive the pivot as hard as any combination of its tokens can?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from n2g_index.build.models.target import Batch, ModelInfo, TargetModel
from n2g_index.build.models.transformer_lens import TransformerLensModel
from n2g_index.build.n2g import lattice
from n2g_index.build.n2g.augment import Substitute
from n2g_index.build.n2g.lattice import Combination, Optimum, find_optima
from n2g_index.build.n2g.probe import Probe, Tokens
from n2g_index.build.n2g.prune import Context, Example
from n2g_index.build.n2g.saliency import Saliency, masked
from n2g_index.config import N2GConfig

LAYER = 1
EXACT = N2GConfig()
CLIMB = N2GConfig(max_combinations=4)

Tried = tuple[Saliency, tuple[Substitute, ...]]
"""A minimal context and the substitutes tried in it."""


def tried(model: TargetModel, tokens: Tokens, pivot: int, neuron: int, offers: dict[int, list[int]]) -> Tried:
    """A context whose important positions are those for which substitutes are offered."""
    probe = Probe(model, LAYER)
    probe.ask(tokens, neuron, range(len(tokens)))
    for position, ids in offers.items():
        for token in ids:
            probe.ask(masked(tokens, position, token), neuron, (position, pivot))
    activations, *changed = probe.run()
    importance = np.zeros(pivot + 1, dtype=np.float32)
    importance[list(offers)] = 1.0
    example = Example(neuron, 0, 0, tokens, pivot, activations)
    context = Context(example, tokens, pivot, float(activations[pivot]))
    places = [(position, token) for position, ids in offers.items() for token in ids]
    return (
        Saliency(context, 1.0, activations, (pivot,), {pivot: importance}),
        tuple(
            Substitute(position, token, 0.1, {position: float(values[0]), pivot: float(values[1])}, False)
            for (position, token), values in zip(places, changed, strict=True)
        ),
    )


def find(model: TargetModel, cases: Sequence[Tried], config: N2GConfig, batch: int = 4096) -> list[Optimum]:
    """The optima of contexts that all have one."""
    saliencies, substitutes = [saliency for saliency, _ in cases], [found for _, found in cases]
    optima = find_optima(Probe(model, LAYER, batch), saliencies, substitutes, config)
    found = [optimum for optimum in optima if optimum is not None]
    assert len(found) == len(cases)
    return found


# with the embedded model


@pytest.fixture(scope="module")
def cases(embedded: TransformerLensModel) -> list[Tried]:
    """Contexts of several lengths, with tokens behind the pivot and one to four important positions."""
    random = np.random.default_rng(7)
    text = "from pathlib import Path\n\ndef main(argv):\n    return [int(x) for x in argv if x is not None]\n"
    tokens = np.array(embedded.encode([text])[0], dtype=np.int32)
    made = []
    for places in (1, 2, 2, 3, 3, 4):
        pivot = int(random.integers(places, 12))
        context = tokens[: pivot + 1 + int(random.integers(4))]
        neuron = int(embedded.activations(LAYER, context[None])[0, pivot].argmax())
        chosen = sorted({pivot, *random.choice(pivot, places - 1, replace=False).tolist()})
        offers = {k: random.integers(3, 6144, 1 + int(random.integers(4))).tolist() for k in chosen}
        made.append(tried(embedded, context, pivot, neuron, offers))
    return made


@dataclass
class Everything:
    """The pivot's activation in every combination of a lattice, read one by one."""

    values: dict[Combination, float]
    original: Combination

    @property
    def singles(self) -> list[float]:
        return [value for c, value in self.values.items() if self.changes(c) <= 1]

    def changes(self, combination: Combination) -> int:
        return sum(a != b for a, b in zip(combination, self.original, strict=True))


@pytest.fixture(scope="module")
def truths(embedded: TransformerLensModel, cases: list[Tried]) -> list[Everything]:
    truths = []
    for saliency, substitutes in cases:
        context = saliency.context
        positions = sorted({s.position for s in substitutes})
        offers = [[s.token_id for s in substitutes if s.position == k] for k in positions]
        original = context.tokens[positions].tolist()
        values = {}
        for combination in product(*([own, *ids] for own, ids in zip(original, offers, strict=True))):
            tokens = context.tokens.copy()
            tokens[positions] = combination
            activations = embedded.activations(LAYER, tokens[None])
            values[combination] = float(activations[0, context.pivot, context.example.neuron])
        truths.append(Everything(values, tuple(original)))
    return truths


def test_the_optimum_is_the_strongest_of_all_combinations(
    embedded: TransformerLensModel, cases: list[Tried], truths: list[Everything]
) -> None:
    optima = find(embedded, cases, EXACT)
    for (saliency, _), truth, optimum in zip(cases, truths, optima, strict=True):
        best = max(truth.values, key=truth.values.__getitem__)
        assert optimum.combination == best
        assert optimum.activation == pytest.approx(truth.values[best], abs=1e-4)
        assert optimum.original_activation == pytest.approx(truth.values[truth.original], abs=1e-4)
        assert (optimum.exact, optimum.n_tried) == (True, len(truth.values))
        expected = saliency.context.tokens[: saliency.context.pivot + 1].copy()
        expected[list(optimum.lattice.positions)] = best
        assert optimum.tokens.tolist() == expected.tolist()
        assert optimum.n_changes == truth.changes(best)
    assert max(optimum.n_changes for optimum in optima) >= 2


def test_a_climb_ends_where_no_single_change_gains(
    embedded: TransformerLensModel, cases: list[Tried], truths: list[Everything]
) -> None:
    optima = find(embedded, cases, CLIMB)
    for truth, optimum in zip(truths, optima, strict=True):
        assert optimum.exact == (len(truth.values) <= 4)
        assert len(truth.singles) <= optimum.n_tried <= len(truth.values)
        value = truth.values[optimum.combination]
        assert optimum.activation == pytest.approx(value, abs=1e-4)
        assert value >= max(truth.singles) - 1e-4
        for other, activation in truth.values.items():
            if sum(a != b for a, b in zip(other, optimum.combination, strict=True)) == 1:
                assert activation <= value + 1e-4
    assert sum(o.n_tried for o in optima) < sum(len(truth.values) for truth in truths)


@pytest.mark.parametrize("config", [EXACT, CLIMB], ids=["exact", "climb"])
def test_batches_and_portions_change_nothing(
    embedded: TransformerLensModel, cases: list[Tried], config: N2GConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outline(optima: list[Optimum]) -> list[tuple[Combination, int]]:
        return [(optimum.combination, optimum.n_tried) for optimum in optima]

    expected = outline(find(embedded, cases, config))
    assert outline(find(embedded, cases, config, batch=40)) == expected
    assert outline(find(embedded, cases[::-1], config)) == expected[::-1]
    assert [outline(find(embedded, [case], config))[0] for case in cases] == expected
    monkeypatch.setattr(lattice, "_PORTION", 100)
    assert outline(find(embedded, cases, config)) == expected


# with activations written by hand


class ByHand:
    """A model with one neuron, whose activation at the last token is a function of the sequence."""

    def __init__(self, function: Callable[[list[int]], float]) -> None:
        self.function = function
        self.seen: list[list[int]] = []

    @property
    def info(self) -> ModelInfo:
        raise NotImplementedError

    @property
    def runs_trees(self) -> bool:
        return False

    @property
    def lanes(self) -> int:
        return 1

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        raise NotImplementedError

    def token_texts(self) -> tuple[str, ...]:
        raise NotImplementedError

    def activations(self, layer: int, tokens: NDArray[np.int32]) -> torch.Tensor:
        raise NotImplementedError

    def values(self, layer: int, batches: Iterable[Batch]) -> Iterator[NDArray[np.float32]]:
        for batch in batches:
            sequences = batch.tokens.tolist()
            self.seen += sequences
            yield np.array([self.function(sequences[row]) for row in batch.row], dtype=np.float32)

    def layer_activations(
        self, layers: Sequence[int], batches: Iterable[NDArray[np.int32]]
    ) -> Iterator[dict[int, torch.Tensor]]:
        raise NotImplementedError


def by_hand(
    function: Callable[[list[int]], float], tokens: list[int], offers: dict[int, list[int]], config: N2GConfig
) -> tuple[Optimum, list[list[int]]]:
    """The optimum of a context that ends at its pivot, and the sequences that were read to find it."""
    model = ByHand(function)
    case = tried(model, np.array(tokens, dtype=np.int32), len(tokens) - 1, 0, offers)
    model.seen.clear()
    (optimum,) = find(model, [case], config)
    return optimum, model.seen


def test_what_was_read_one_at_a_time_is_not_read_again() -> None:
    optimum, seen = by_hand(sum, [5, 1, 6, 2], {1: [3, 4], 3: [7]}, EXACT)
    assert sorted(seen) == [[5, 3, 6, 7], [5, 4, 6, 7]]
    assert (optimum.tokens.tolist(), optimum.activation, optimum.n_tried) == ([5, 4, 6, 7], 22, 6)
    optimum, seen = by_hand(sum, [5, 1, 6, 2], {1: [3, 4]}, EXACT)
    assert (seen, optimum.tokens.tolist(), optimum.n_changes) == ([], [5, 4, 6, 2], 1)


def test_a_climb_reads_no_combination_twice() -> None:
    optimum, seen = by_hand(sum, [1, 1, 1, 1], {k: [2, 3, 4] for k in range(4)}, CLIMB)
    assert optimum.tokens.tolist() == [4, 4, 4, 4]
    assert len({tuple(sequence) for sequence in seen}) == len(seen) < 4**4 - 13
    assert optimum.n_tried == 13 + len(seen)


@pytest.mark.parametrize("config", [EXACT, CLIMB], ids=["exact", "climb"])
def test_equals_go_to_the_fewest_changes_and_then_to_the_lower_tokens(config: N2GConfig) -> None:
    offers = {0: [9, 3], 1: [8, 4]}
    optimum, _ = by_hand(lambda _: 1.0, [5, 5], offers, config)
    assert optimum.tokens.tolist() == [5, 5]
    optimum, _ = by_hand(lambda tokens: 1.0 + (tokens != [5, 5]), [5, 5], offers, config)
    assert optimum.tokens.tolist() == [3, 5]
    optimum, _ = by_hand(lambda tokens: 2.0 + 1e-6 * tokens[0], [5, 5], offers, config)  # as good as equal
    assert optimum.tokens.tolist() == [5, 5]


def test_tokens_that_are_good_alone_may_spoil_each_other() -> None:
    def function(tokens: list[int]) -> float:
        changed = sum(a != 1 for a in tokens)
        return {0: 1.0, 1: 2.0}.get(changed, 0.5)

    for config in (EXACT, CLIMB):
        optimum, _ = by_hand(function, [1, 1, 1], {0: [2, 3], 1: [2, 3], 2: [2, 3]}, config)
        assert (optimum.tokens.tolist(), optimum.activation) == ([1, 1, 2], 2.0)


def test_the_second_climb_finds_what_no_single_step_from_the_first_leads_to() -> None:
    def function(tokens: list[int]) -> float:
        if tokens == [3, 3, 3]:
            return 9.0
        return 1.0 + 0.5 * tokens.count(3) if tokens.count(3) < 2 else 0.5

    optimum, _ = by_hand(function, [1, 1, 1], {0: [2, 3], 1: [2, 3], 2: [2, 3]}, CLIMB)
    assert (optimum.tokens.tolist(), optimum.exact) == ([3, 3, 3], False)


@pytest.mark.parametrize("config", [EXACT, CLIMB], ids=["exact", "climb"])
def test_a_nan_is_never_the_optimum(config: N2GConfig) -> None:
    optimum, _ = by_hand(
        lambda t: math.nan if 9 in t else float(sum(t)), [1, 1], {0: [9, 4], 1: [9, 4]}, config
    )
    assert (optimum.tokens.tolist(), optimum.activation) == ([4, 4], 8)


def test_there_is_no_lattice_where_the_pivot_does_not_fire_or_nothing_matters_to_it() -> None:
    model = ByHand(sum)
    saliency, substitutes = tried(model, np.array([1, 1], dtype=np.int32), 1, 0, {1: [2]})
    silent = Saliency(saliency.context, 1.0, saliency.activations, (), {})
    aloof = Saliency(saliency.context, 1.0, saliency.activations, (1,), {1: np.zeros(2, dtype=np.float32)})
    probe = Probe(model, LAYER)
    found = find_optima(probe, [silent, saliency, aloof], [(), substitutes, ()], EXACT)
    assert [optimum is None for optimum in found] == [True, False, True]
    assert find_optima(probe, [], [], EXACT) == []


def test_without_substitutes_the_original_is_the_optimum() -> None:
    optimum, seen = by_hand(sum, [1, 7], {1: []}, EXACT)
    assert (seen, optimum.tokens.tolist(), optimum.n_tried, optimum.exact) == ([], [1, 7], 1, True)
