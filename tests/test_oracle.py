"""The batched engine finds what the literal transcription finds, path by path."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import n2g_index
from n2g_index import BuildConfig
from n2g_index.build import build
from n2g_index.build.models.helper import SharedTokenizerHelper, load_helper
from n2g_index.build.models.transformer_lens import TransformerLensModel
from n2g_index.config import N2GConfig
from n2g_index.index import Index
from tests.oracle import IGNORE, Oracle, OracleExample, f1, predict

NEURONS_PER_LAYER = 11
CONFIG = BuildConfig(
    max_tokens=100_000,
    examples=12,  # six to train on: the oracle takes seconds for each neuron
    neurons=tuple(sorted(np.random.default_rng(0).choice(768, NEURONS_PER_LAYER, replace=False).tolist())),
    n2g=N2GConfig(method="paper"),
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    out: Path = tmp_path_factory.mktemp("oracle") / "small.n2g"
    build(CONFIG, out)
    return n2g_index.open(out)


@pytest.fixture(scope="module")
def oracle(embedded: TransformerLensModel) -> Oracle:
    helper = load_helper("auto", embedded, embedded.device)
    assert isinstance(helper, SharedTokenizerHelper)
    info = embedded.info
    return Oracle(
        embedded.bridge, info.hook, info.bos_id, info.mask_id, embedded.token_texts(),
        helper.model, helper.mask_id, {0, 1, 2}, N2GConfig(),
    )  # fmt: skip


@pytest.mark.parametrize("layer", range(4))
def test_paths_equal_the_oracles(index: Index, oracle: Oracle, layer: int) -> None:
    kinds: Counter[str] = Counter()
    for neuron in CONFIG.neurons or ():
        neuron_id = layer * 768 + neuron
        examples = index.sql(
            'select w.tokens, e."pivot", e.max_activation from examples e join windows w using (window_id) '
            f"where neuron_id = {neuron_id} and split = 'train' order by rank"
        ).rows
        ((max_activation,),) = index.sql(
            f"select max_activation from neurons where neuron_id = {neuron_id}"
        ).rows
        built = {
            tuple(tokens): (activation, support)
            for tokens, activation, support in index.sql(
                f"select tokens, activation, support from paths where neuron_id = {neuron_id}"
            ).rows
        }
        expected = oracle.paths(layer, neuron, [OracleExample(*row) for row in examples], max_activation)
        kinds["neurons"] += bool(expected)
        kinds["with context"] += any(len(path) > 1 for path in expected)
        kinds["with ignored positions"] += any(IGNORE in path for path in expected)
        assert built.keys() == expected.keys(), f"L{layer}N{neuron}"
        for path, (activation, support) in expected.items():
            assert built[path] == (pytest.approx(activation, abs=1e-4), support), f"L{layer}N{neuron} {path}"
    # Two empty answers would agree as well.
    assert kinds["neurons"] >= NEURONS_PER_LAYER - 1
    assert kinds["with context"] >= 2
    kept = index.sql(
        f"select count(*) from lattices where kept and origin = 'substitute' and neuron_id // 768 = {layer}"
    )
    assert kept.rows[0][0] > 0


@pytest.mark.parametrize("layer", range(4))
def test_optima_equal_the_oracles(index: Index, oracle: Oracle, layer: int) -> None:
    contexts = index.sql(
        'select w.tokens, e."pivot", e.max_activation, n."index", n.max_activation, '
        "o.tokens, o.activation, o.original_activation, o.n_tried, o.n_changes, o.exact "
        "from optima o join neurons n using (neuron_id) "
        "join examples e on e.neuron_id = o.neuron_id and e.rank = o.lattice_id "
        f"join windows w using (window_id) where layer = {layer} and n_tried between 2 and 40 "
        "order by n_changes desc, n_tried desc, o.neuron_id, lattice_id limit 4"
    ).rows
    for *example, neuron, max_activation, tokens, activation, original, n_tried, n_changes, exact in contexts:
        best, strongest, base, tried = oracle.optimum(layer, neuron, OracleExample(*example))
        where = f"L{layer}N{neuron}"
        assert activation == pytest.approx(strongest / max_activation, abs=1e-4), where
        assert original == pytest.approx(base / max_activation, abs=1e-4), where
        assert (exact, n_tried) == (True, len(tried)), where
        if tokens != best:  # only where both are as strong
            assert tried[tuple(tokens)] == pytest.approx(strongest, abs=1e-4 * max_activation), where
        assert (n_changes > 0) == (activation > original), where
    assert len(contexts) == 4


def test_every_lattice_has_an_optimum_no_weaker_than_its_single_changes(index: Index) -> None:
    lattices = index.sql("select distinct neuron_id, lattice_id from lattices order by all").rows
    assert index.sql("select neuron_id, lattice_id from optima order by all").rows == lattices
    weaker = index.sql(
        "with singles as (select neuron_id, lattice_id, max(activation) / "
        "  max(activation) filter (origin = 'original') as gain from lattices group by all) "
        "select * from optima join singles using (neuron_id, lattice_id) "
        "where activation / original_activation < gain * (1 - 1e-4)"
    ).rows
    assert weaker == []


def test_neurons_know_their_optima(index: Index) -> None:
    texts = index.sql("select text from tokens order by token_id").rows
    for neuron in CONFIG.neurons or ():
        found = index.neuron(f"L3N{neuron}")
        stored = index.sql(
            f"select lattice_id, tokens, activation from optima where neuron_id = {found.neuron_id} "
            "order by activation desc, lattice_id"
        ).rows
        assert [(o.rank, o.activation) for o in found.optima] == [(rank, a) for rank, _, a in stored]
        assert found.optimum == (found.optima[0] if stored else None)
        examples = index.examples(f"L3N{neuron}", limit=99)
        for optimum, (_, tokens, _) in zip(found.optima, stored, strict=True):
            assert optimum.tokens == tuple(texts[token][0] for token in tokens)
            example = examples[optimum.rank]
            end = example.pivot + 1
            assert optimum.original == example.tokens[end - len(tokens) : end]
            changed = [a != b for a, b in zip(optimum.tokens, optimum.original, strict=True)]
            assert [k for k, is_changed in enumerate(changed) if is_changed] == list(optimum.substituted)


def test_scores_equal_the_oracles(index: Index) -> None:
    for layer in range(4):
        for neuron in (CONFIG.neurons or ())[:3]:
            neuron_id = layer * 768 + neuron
            paths = {
                tuple(tokens): (activation, 1)
                for tokens, activation in index.sql(
                    f"select tokens, activation from paths where neuron_id = {neuron_id}"
                ).rows
            }
            test = index.sql(
                "select w.tokens, list_transform(e.activations, lambda a: a / n.max_activation) "
                "from examples e join windows w using (window_id) join neurons n using (neuron_id) "
                f"where neuron_id = {neuron_id} and split = 'test' order by rank"
            ).rows
            predicted = [p for tokens, _ in test for p in predict(paths, tokens)]
            actual = [float(a) for _, activations in test for a in activations]
            stored = index.sql(
                "select precision, recall, f1 from scores where method = 'n2g' and split = 'test' "
                f"and neuron_id = {neuron_id}"
            ).rows
            assert stored == [pytest.approx(f1(predicted, actual, 0.5), abs=1e-9)]
