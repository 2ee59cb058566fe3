"""Does a probe answer what the model itself would, and run no more than it must?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from n2g_index.build.models.target import Batch, ModelInfo
from n2g_index.build.models.transformer_lens import TransformerLensModel
from n2g_index.build.n2g.probe import Probe, ProbeStats, Tokens

LAYER = 2


class Watched:
    """The real model, with a note of what it was asked to run."""

    def __init__(self, model: TransformerLensModel) -> None:
        self.model = model
        self.batches: list[list[list[int]]] = []
        self.trees = False

    @property
    def info(self) -> ModelInfo:
        return self.model.info

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self.model.encode(texts)

    def token_texts(self) -> tuple[str, ...]:
        return self.model.token_texts()

    def activations(self, layer: int, tokens: NDArray[np.int32]) -> torch.Tensor:
        return self.model.activations(layer, tokens)

    @property
    def runs_trees(self) -> bool:
        return self.trees

    def values(self, layer: int, batches: Iterable[Batch]) -> Iterator[NDArray[np.float32]]:
        assert layer == LAYER
        for batch in batches:
            self.batches.append(batch.tokens.tolist())
            assert (batch.tree is None) or self.trees
            yield from self.model.values(layer, [batch])

    def layer_activations(
        self, layers: Sequence[int], batches: Iterable[NDArray[np.int32]]
    ) -> Iterator[dict[int, torch.Tensor]]:
        return self.model.layer_activations(layers, batches)


@pytest.fixture
def watched(embedded: TransformerLensModel) -> Watched:
    return Watched(embedded)


def sequence(*tokens: int) -> Tokens:
    return np.array(tokens, dtype=np.int32)


def test_answers_are_what_the_model_gives_one_by_one(watched: Watched) -> None:
    random = np.random.default_rng(5)
    sequences = [random.integers(3, 6144, random.integers(1, 9)).astype(np.int32) for _ in range(12)]
    questions = []
    for _ in range(60):
        tokens = sequences[random.integers(len(sequences))]
        count = int(random.integers(1, len(tokens) + 1))
        places = random.permutation(len(tokens))[:count].tolist()  # in any order
        questions.append((tokens, int(random.integers(768)), places))
    probe = Probe(watched, LAYER, batch_tokens=24)
    for tokens, neuron, places in questions:
        probe.ask(tokens.copy(), neuron, places)
    answers = probe.run()
    assert [answer.dtype for answer in answers] == [np.float32] * 60
    for (tokens, neuron, places), answer in zip(questions, answers, strict=True):
        alone = watched.model.activations(LAYER, tokens[None])[0, places, neuron].numpy()
        np.testing.assert_allclose(answer, alone, rtol=1e-4, atol=1e-5)


def test_equal_sequences_run_once_for_all_who_ask(watched: Watched) -> None:
    probe = Probe(watched, LAYER)
    first, second = sequence(7, 8, 9), sequence(7, 8, 10)
    for neuron, tokens in enumerate([first, second, first.copy(), first[::-1][::-1], second]):
        probe.ask(tokens, neuron, (2,))
    answers = probe.run()
    values = watched.model.activations(LAYER, np.stack([first, second]))[:, 2].numpy()
    expected = [values[row, neuron] for neuron, row in enumerate([0, 1, 0, 0, 1])]
    np.testing.assert_allclose(np.concatenate(answers), expected, rtol=1e-4, atol=1e-5)
    assert watched.batches == [[[7, 8, 9], [7, 8, 10]]]
    assert probe.stats == ProbeStats(sequences_asked=5, sequences_run=2, tokens_run=8, batches=1)


def test_batches_hold_one_length_and_fit_the_budget(watched: Watched) -> None:
    probe = Probe(watched, LAYER, batch_tokens=12)
    long = list(range(100, 120))
    sequences = [[5, 6, 7], long, [1], [5, 6, 8], [5, 6, 9], [2], [5, 7, 9], [5, 8, 9]]
    for tokens in sequences:
        probe.ask(sequence(*tokens), 0, (0,))
    probe.run()
    assert watched.batches == [  # with BOS 2, 4 and 21 tokens: six, three and (over the budget) one at a time
        [[1], [2]],
        [[5, 6, 7], [5, 6, 8], [5, 6, 9]],
        [[5, 7, 9], [5, 8, 9]],
        [long],
    ]
    assert astuple(probe.stats) == (8, 8, 4 + 12 + 8 + 21, 4)


def test_every_run_starts_anew_and_the_cost_adds_up(watched: Watched) -> None:
    probe = Probe(watched, LAYER)
    probe.ask(sequence(4, 5), 1, (0, 1))
    (first,) = probe.run()
    probe.ask(sequence(4, 5), 1, (1,))
    probe.ask(sequence(6), 1, (0,))
    second, third = probe.run()
    assert (first.shape, second.shape, third.shape) == ((2,), (1,), (1,))
    np.testing.assert_allclose(second, first[1:], rtol=1e-4, atol=1e-5)
    assert watched.batches == [[[4, 5]], [[6]], [[4, 5]]]
    assert astuple(probe.stats) == (3, 3, 8, 3)


def test_a_question_about_no_position_has_an_empty_answer(watched: Watched) -> None:
    probe = Probe(watched, LAYER)
    probe.ask(sequence(4, 5), 1, ())
    probe.ask(sequence(4, 5), 1, (1,))
    probe.ask(sequence(9), 2, ())
    assert [len(answer) for answer in probe.run()] == [0, 1, 0]
    assert watched.batches == [[[4, 5]]]


def test_nothing_asked_is_nothing_run(watched: Watched) -> None:
    probe = Probe(watched, LAYER)
    assert probe.run() == []
    assert (watched.batches, probe.stats) == ([], ProbeStats())


# Token trees


def variants(tokens: Sequence[int]) -> list[Tokens]:
    """A context with each of its tokens masked in turn."""
    return [sequence(*tokens[:k], 1, *tokens[k + 1 :]) for k in range(len(tokens))]


def test_trees_answer_what_plain_batches_do(watched: Watched) -> None:
    random = np.random.default_rng(7)
    contexts = [random.integers(3, 6144, n).tolist() for n in (1, 2, 9, 17, 30, 30, 80)]
    questions = [
        (tokens, int(random.integers(768)), random.permutation(len(tokens))[:3].tolist())
        for context in contexts
        for tokens in variants(context)
    ]
    answers, costs = [], []
    for watched.trees in (False, True):
        probe = Probe(watched, LAYER, batch_tokens=600)
        for question in questions:
            probe.ask(*question)
        answers.append(np.concatenate(probe.run()))
        costs.append(probe.stats)
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-4, atol=1e-5)
    plain, trees = costs
    assert plain.sequences_run == trees.sequences_run == len(questions)
    assert trees.tokens_run < 0.8 * plain.tokens_run
    assert all(len(batch) * (len(batch[0]) + 1) <= 600 for batch in watched.batches)


def test_sequences_that_share_little_are_not_made_trees(watched: Watched) -> None:
    watched.trees = True
    probe = Probe(watched, LAYER)
    text = list(range(10, 20))
    for start in range(10):  # truncations of one text, as pruning tries them
        probe.ask(sequence(*text[start:]), 0, (9 - start,))
    probe.run()
    assert watched.batches == [[text[start:]] for start in reversed(range(10))]


def test_a_shared_beginning_runs_once(watched: Watched) -> None:
    watched.trees = True
    probe = Probe(watched, LAYER)
    for last in (5, 6, 7):
        probe.ask(sequence(4, 4, 4, last), 0, (3,))
    probe.run()
    assert watched.batches == [[[4, 4, 4, 5, 6, 7]]]
    assert probe.stats == ProbeStats(sequences_asked=3, sequences_run=3, tokens_run=7, batches=1)
