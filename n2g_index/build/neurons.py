"""What does an index hold of each of these neurons?

Takes a chunk of neurons of one layer through N2G and scores the result on the held-out examples, next to
the two lookup baselines. A neuron that is positive nowhere is `dead`; one whose numbers are not finite is
`failed`. Both are recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.collect import LayerActivity
from n2g_index.build.models.helper import Helper
from n2g_index.build.models.target import TargetModel
from n2g_index.build.n2g.augment import Substitute, find_substitutes
from n2g_index.build.n2g.probe import Probe, ProbeStats
from n2g_index.build.n2g.prune import Example, prune, sentence_ends
from n2g_index.build.n2g.saliency import Saliency, measure_saliency
from n2g_index.build.n2g.traces import trace_paths
from n2g_index.build.windows import Windows
from n2g_index.config import N2GConfig
from n2g_index.graph.condensed import condense
from n2g_index.graph.labels import path_text
from n2g_index.graph.matching import predict
from n2g_index.graph.paths import IGNORE, Path, Trace
from n2g_index.graph.scoring import NGRAM, Score, lookup_paths, score
from n2g_index.graph.trie import build_trie
from n2g_index.store.records import ExampleRecord, LatticeRow, NeuronRecord


@dataclass(frozen=True, slots=True)
class Explained:
    """What N2G found for one neuron: its contexts' saliencies and their substitutes."""

    saliencies: tuple[Saliency, ...]
    substitutes: tuple[tuple[Substitute, ...], ...]

    def traces(self, config: N2GConfig) -> Iterator[Trace]:
        for saliency, substitutes in zip(self.saliencies, self.substitutes, strict=True):
            yield from trace_paths(saliency, substitutes, config)

    def finite(self) -> bool:
        numbers = [s.activations for s in self.saliencies]
        numbers += [values for s in self.saliencies for values in s.importance.values()]
        numbers += [np.array([*s.activations.values()]) for found in self.substitutes for s in found]
        numbers += [np.array([s.context.kept for s in self.saliencies])]
        return bool(np.isfinite(np.concatenate(numbers)).all())


@dataclass(slots=True)
class Explainer:
    """N2G for one model: everything that stays the same from chunk to chunk."""

    model: TargetModel
    helper: Helper | None
    windows: Windows
    token_texts: tuple[str, ...]
    config: N2GConfig
    batch_tokens: int
    stats: ProbeStats

    def explain(self, activity: LayerActivity, neurons: Sequence[int]) -> list[NeuronRecord]:
        """Return one record per neuron, in the order given."""
        examples = {n: activity.examples(n, self.windows) if activity.finite[n] else [] for n in neurons}
        train = [e for n in neurons for e in examples[n] if e.split == "train"]
        found = self._n2g(activity, train)
        return [self._record(activity, n, examples[n], found.get(n)) for n in neurons]

    def _n2g(self, activity: LayerActivity, train: Sequence[Example]) -> dict[int, Explained]:
        """Run every stage over the train examples of all neurons together."""
        probe = Probe(self.model, activity.layer, self.batch_tokens, self.stats)
        contexts = prune(probe, train, sentence_ends(self.token_texts), self.config)
        saliencies = measure_saliency(
            probe, contexts, activity.max_activation, self.model.info.mask_id, self.config
        )
        substitutes = find_substitutes(probe, saliencies, self.helper, self.config)
        by_neuron: dict[int, list[int]] = {}
        for i, example in enumerate(train):
            by_neuron.setdefault(example.neuron, []).append(i)
        return {
            neuron: Explained(tuple(saliencies[i] for i in at), tuple(substitutes[i] for i in at))
            for neuron, at in by_neuron.items()
        }

    def _record(
        self, activity: LayerActivity, neuron: int, examples: Sequence[Example], found: Explained | None
    ) -> NeuronRecord:
        error = None
        if not activity.finite[neuron] or (found is not None and not found.finite()):
            error, found = f"the model gave NaN or infinite activations at {self.model.info.hook}", None
        trie = build_trie(found.traces(self.config) if found else ())
        max_activation = float(activity.max_activation[neuron])
        return NeuronRecord(
            layer=activity.layer,
            index=neuron,
            status="failed" if error else "ok" if found else "dead",
            error=error,
            max_activation=_finite(activity.max_activation[neuron]),
            mean_activation=_finite(activity.mean[neuron]),
            density=float(activity.density[neuron]),
            trie=trie,
            graph=condense(trie),
            path_texts=tuple(
                path_text([None if t == IGNORE else self.token_texts[t] for t in path.tokens])
                for path in trie.paths
            ),
            lattices=_lattices(found, self.config) if found else (),
            examples=tuple(
                ExampleRecord(e.rank, e.split, e.window_id, e.pivot, e.activation, e.activations)
                for e in examples
            ),
            scores=_scores(trie.paths, examples, max_activation, self.config) if found else {},
        )


def _finite(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None


def _stack(
    examples: Sequence[Example], max_activation: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Tokens and normalised activations of some examples, both [n_examples, window]."""
    tokens = np.stack([e.tokens for e in examples])
    return tokens, np.stack([e.activations for e in examples]) / np.float32(max_activation)


def _scores(
    paths: Sequence[Path], examples: Sequence[Example], max_activation: float, config: N2GConfig
) -> Mapping[str, Score]:
    """Held-out scores of N2G and of both lookup tables; none where there is no test example."""
    train = [e for e in examples if e.split == "train"]
    test = [e for e in examples if e.split == "test"]
    if not test:
        return {}
    threshold = config.firing_threshold
    seen = _stack(train, max_activation)
    tokens, actual = _stack(test, max_activation)
    methods = {
        "n2g": paths,
        "token_lookup": lookup_paths(*seen, threshold, n=1),
        "ngram_lookup": lookup_paths(*seen, threshold, n=NGRAM),
    }
    return {name: score(predict(found, tokens), actual, threshold) for name, found in methods.items()}


def _lattices(found: Explained, config: N2GConfig) -> tuple[LatticeRow, ...]:
    """The important places of each minimal context: their own token, then what was tried in its stead."""
    rows = []
    for saliency, substitutes in zip(found.saliencies, found.substitutes, strict=True):
        context = saliency.context
        if context.pivot not in saliency.importance:
            continue
        lattice = context.example.rank
        for k in saliency.important(context.pivot, config.importance_threshold):
            own, back = int(context.tokens[k]), context.pivot - k
            rows.append(LatticeRow(lattice, back, own, "original", None, context.kept * saliency.scale, True))
            rows += [
                LatticeRow(lattice, back, s.token_id, "substitute", s.probability,
                           s.activations[context.pivot] * saliency.scale, s.kept)
                for s in substitutes if s.position == k
            ]  # fmt: skip
    return tuple(rows)
