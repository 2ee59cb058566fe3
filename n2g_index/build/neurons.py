"""What does an index hold of each of these neurons?

Takes a chunk of neurons of one layer through the paper's stages, finds their paths by the method asked for,
and scores these on the held-out examples, next to the baselines. A neuron that is positive nowhere is `dead`;
one whose numbers are not finite is `failed`. Both are recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from n2g_index.build.collect import LayerActivity
from n2g_index.build.models.helper import Helper
from n2g_index.build.models.target import TargetModel
from n2g_index.build.n2g.augment import Substitute, find_substitutes
from n2g_index.build.n2g.lattice import Optimum, find_optima
from n2g_index.build.n2g.probe import Probe, ProbeStats
from n2g_index.build.n2g.prune import Example, prune, sentence_ends
from n2g_index.build.n2g.saliency import Saliency, measure_saliency
from n2g_index.build.n2g.traces import trace_paths
from n2g_index.build.refined.labelled import label, not_held_out
from n2g_index.build.refined.learn import learn
from n2g_index.build.scores import held_out_scores, lookup_tables
from n2g_index.build.windows import Windows
from n2g_index.config import N2GConfig
from n2g_index.graph.condensed import condense
from n2g_index.graph.labels import path_text
from n2g_index.graph.paths import IGNORE, Path, Trace, merge_traces
from n2g_index.graph.trie import Trie, build_trie
from n2g_index.store.records import ExampleRecord, LatticeRow, NeuronRecord, OptimumRow


@dataclass(frozen=True, slots=True)
class Explained:
    """What N2G found for one neuron: its contexts' saliencies, their substitutes and optima."""

    saliencies: tuple[Saliency, ...]
    substitutes: tuple[tuple[Substitute, ...], ...]
    optima: tuple[Optimum | None, ...]

    def traces(self, config: N2GConfig) -> Iterator[Trace]:
        for saliency, substitutes in zip(self.saliencies, self.substitutes, strict=True):
            yield from trace_paths(saliency, substitutes, config)

    def finite(self) -> bool:
        numbers = [s.activations for s in self.saliencies]
        numbers += [values for s in self.saliencies for values in s.importance.values()]
        numbers += [np.array([*s.activations.values()]) for found in self.substitutes for s in found]
        numbers += [np.array([s.context.kept for s in self.saliencies])]
        numbers += [np.array([optimum.activation for optimum in self.optima if optimum])]
        return bool(np.isfinite(np.concatenate(numbers)).all())


@dataclass(frozen=True, slots=True)
class Candidate:
    """A neuron with what was found about it so far."""

    neuron: int
    windows: tuple[Example, ...]
    """Its top windows, strongest first: the examples, then further ones to learn from."""

    found: Explained | None
    """None for a dead or failed neuron."""

    error: str | None
    trie: Trie
    methods: Mapping[str, Sequence[Path]]
    """Paths by method, to be scored; none for a dead or failed neuron."""


@dataclass(slots=True)
class Explainer:
    """N2G for one model: everything that stays the same from chunk to chunk."""

    model: TargetModel
    helper: Helper | None
    windows: Windows
    token_texts: tuple[str, ...]
    config: N2GConfig
    n_examples: int
    """Top windows that are examples; the collected ones beyond them are only learnt from."""

    batch_tokens: int
    stats: ProbeStats

    def explain(self, activity: LayerActivity, neurons: Sequence[int]) -> list[NeuronRecord]:
        """Return one record per neuron, in the order given."""
        candidates = self.candidates(activity, neurons)
        largest = activity.max_activation[list(neurons)].tolist()
        examples = [c.windows[: self.n_examples] for c in candidates]
        scores = held_out_scores(
            [c.methods for c in candidates], examples, largest, self.config.firing_threshold
        )
        records = [self._record(activity, candidate) for candidate in candidates]
        return [replace(record, scores=own) for record, own in zip(records, scores, strict=True)]

    def candidates(self, activity: LayerActivity, neurons: Sequence[int]) -> list[Candidate]:
        """Find the paths of some neurons by each method."""
        windows = {n: activity.examples(n, self.windows) if activity.finite[n] else [] for n in neurons}
        train = [e for n in neurons for e in windows[n][: self.n_examples] if e.split == "train"]
        found = self._n2g(activity, train)
        return [self._candidate(activity, n, windows[n], found.get(n)) for n in neurons]

    def _n2g(self, activity: LayerActivity, train: Sequence[Example]) -> dict[int, Explained]:
        """Run every stage over the train examples of all neurons together."""
        probe = Probe(self.model, activity.layer, self.batch_tokens, self.stats)
        contexts = prune(probe, train, sentence_ends(self.token_texts), self.config)
        saliencies = measure_saliency(
            probe, contexts, activity.max_activation, self.model.info.mask_id, self.config
        )
        substitutes = find_substitutes(probe, saliencies, self.helper, self.config)
        optima = find_optima(probe, saliencies, substitutes, self.config)
        by_neuron: dict[int, list[int]] = {}
        for i, example in enumerate(train):
            by_neuron.setdefault(example.neuron, []).append(i)
        return {
            neuron: Explained(
                tuple(saliencies[i] for i in at),
                tuple(substitutes[i] for i in at),
                tuple(optima[i] for i in at),
            )
            for neuron, at in by_neuron.items()
        }

    def _candidate(
        self, activity: LayerActivity, neuron: int, windows: Sequence[Example], found: Explained | None
    ) -> Candidate:
        error = None
        if not activity.finite[neuron] or (found is not None and not found.finite()):
            error, found = f"the model gave NaN or infinite activations at {self.model.info.hook}", None
        if found is None:
            return Candidate(neuron, tuple(windows), None, error, build_trie(()), {})
        max_activation = float(activity.max_activation[neuron])
        traces = list(found.traces(self.config))
        methods: dict[str, Sequence[Path]] = {}
        if self.config.method == "refined":
            methods["n2g_paper"] = merge_traces(traces)
            traces = self._learn(windows, max_activation)
        trie = build_trie(traces)
        methods["n2g"] = trie.paths
        examples = windows[: self.n_examples]
        methods |= lookup_tables(examples, max_activation, self.config.firing_threshold)
        return Candidate(neuron, tuple(windows), found, None, trie, methods)

    def _learn(self, windows: Sequence[Example], max_activation: float) -> list[Trace]:
        """Paths of the refined method, from all windows but the test examples."""
        refined, threshold = self.config.refined, self.config.firing_threshold
        known = not_held_out(windows[: refined.windows], self.n_examples)
        labelled = label(
            known, max_activation, n_examples=self.n_examples, reach=refined.reach, threshold=threshold
        )
        return learn(labelled, refined, threshold)

    def _record(self, activity: LayerActivity, candidate: Candidate) -> NeuronRecord:
        neuron, found, trie = candidate.neuron, candidate.found, candidate.trie
        return NeuronRecord(
            layer=activity.layer,
            index=neuron,
            status="failed" if candidate.error else "ok" if found else "dead",
            error=candidate.error,
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
            optima=_optima(found, float(activity.max_activation[neuron])) if found else (),
            examples=tuple(
                ExampleRecord(e.rank, e.split, e.window_id, e.pivot, e.activation, e.activations)
                for e in candidate.windows[: self.n_examples]
            ),
            scores={},
        )


def _finite(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None


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


def _optima(found: Explained, max_activation: float) -> tuple[OptimumRow, ...]:
    """What drives the pivot of each lattice hardest, next to the neuron's max activation."""
    # Not scaled up as in `_lattices`: the question is what these tokens do by themselves.
    return tuple(
        OptimumRow(
            lattice_id=optimum.lattice.saliency.context.example.rank,
            tokens=tuple(optimum.tokens.tolist()),
            activation=optimum.activation / max_activation,
            original_activation=optimum.original_activation / max_activation,
            exact=optimum.exact,
            n_changes=optimum.n_changes,
            n_tried=optimum.n_tried,
        )
        for optimum in found.optima
        if optimum
    )
