"""Does the path index on disk match what the tables say, and is it a whole part of an index?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pytest

from n2g_index.errors import IndexIncomplete
from n2g_index.graph.matching import predict
from n2g_index.graph.paths import IGNORE, Trace
from n2g_index.graph.paths import Path as TokenPath
from n2g_index.graph.trie import build_trie
from n2g_index.store.manifest import DATABASE, PATHS, describe_files, read_manifest
from n2g_index.store.pathindex import PathIndex, build_path_index
from n2g_index.store.reader import Store
from tests.making import trace, write_index

VOCABULARY = ["a", "b", "c", "d", "e", "f"]
D_MLP = 4
TEXTS = np.random.default_rng(0).integers(0, len(VOCABULARY), (40, 12)).astype(np.int32)


def random_traces(seed: int) -> list[Trace]:
    """As a build finds them: first and last position literal."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(rng.integers(1, 8)):
        tokens = rng.integers(IGNORE, len(VOCABULARY), rng.integers(1, 5))
        tokens[[0, -1]] = np.abs(tokens[[0, -1]])
        found.append(trace(*tokens.tolist(), activation=float(rng.choice([0.25, 0.5, 1.0]))))
    return found


NEURONS = {(layer, number): random_traces(10 * layer + number) for layer in (0, 2) for number in range(3)}


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return write_index(tmp_path / "toy.n2g", NEURONS, VOCABULARY, d_mlp=D_MLP, dead=[(1, 0)])


def paths_of(store: Store, neuron_id: int) -> Sequence[TokenPath]:
    rows = store.query(
        "select tokens, activation from paths where neuron_id = ? order by path_id", [neuron_id]
    ).rows
    return [TokenPath(tuple(tokens), activation) for tokens, activation in rows]


def test_every_neuron_matches_as_its_own_trie_does(index: Path) -> None:
    found = Store(index).paths.trie.match(TEXTS)
    assert set(found.owner.tolist()) == {layer * D_MLP + number for layer, number in NEURONS}
    for (layer, number), traces in NEURONS.items():
        mine = found.owner == layer * D_MLP + number
        dense = np.zeros(TEXTS.shape, dtype=np.float32)
        dense[found.window[mine], found.position[mine]] = found.activation[mine]
        assert dense.tolist() == predict(build_trie(traces).paths, TEXTS).tolist()


def test_owners_and_path_ids_are_those_of_the_tables(index: Path) -> None:
    store = Store(index)
    found = store.paths.trie.match(TEXTS)
    assert len(found)
    for neuron_id in set(found.owner.tolist()):
        mine = found.owner == neuron_id
        own = paths_of(store, neuron_id)
        assert [own[i].activation for i in found.path_id[mine]] == found.activation[mine].tolist()


def test_the_manifest_lists_every_array_with_its_checksum(index: Path) -> None:
    listed = {name for name in read_manifest(index).files if name.startswith(f"{PATHS}/")}
    assert listed == {f"{PATHS}/{name}.npy" for name in Store(index).paths.trie.arrays()}
    assert read_manifest(index).files == describe_files(index)


def test_the_files_are_plain_npy_and_mapped(index: Path) -> None:
    for name, array in Store(index).paths.trie.arrays().items():
        plain = np.load(index / PATHS / f"{name}.npy")
        assert plain.dtype == array.dtype
        assert plain.tolist() == array.tolist()
        assert not array.flags.owndata
        assert not array.flags.writeable


def test_it_can_be_built_again_from_the_tables(index: Path, tmp_path: Path) -> None:
    with duckdb.connect(str(index / DATABASE), read_only=True) as db:
        build_path_index(db, tmp_path / "again")
    for file in (index / PATHS).iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_an_index_without_any_path(tmp_path: Path) -> None:
    store = Store(write_index(tmp_path / "toy.n2g", {}, VOCABULARY, dead=[(0, 0)]))
    assert len(store.paths.trie.match(TEXTS)) == 0


def test_models_are_matched_apart(index: Path, tmp_path: Path) -> None:
    """A second model's tokens have the same ids, and another meaning."""
    together = Store(index).paths.trie.match(TEXTS)
    with duckdb.connect(str(index / DATABASE)) as db:
        db.execute("insert into models select * replace (1 as model_id) from models")
        db.execute(f"update neurons set model_id = 1 where neuron_id >= {D_MLP}")
        build_path_index(db, tmp_path / "two")
    trie = PathIndex(tmp_path / "two").trie
    for model_id in (0, 1):
        found = trie.match(TEXTS, model_id)
        mine = (together.owner >= D_MLP) == bool(model_id)
        assert found.owner.tolist() == together.owner[mine].tolist()
        assert found.path_id.tolist() == together.path_id[mine].tolist()


def test_a_reader_keeps_the_path_index_that_was_replaced(index: Path) -> None:
    old = Store(index)
    write_index(index, {(1, 1): [trace(0)]}, VOCABULARY, d_mlp=D_MLP, replace=True)
    assert 0 in old.paths.trie.match(TEXTS).owner
    assert set(Store(index).paths.trie.match(TEXTS).owner.tolist()) == {D_MLP + 1}


@pytest.mark.parametrize("kept", [0, 9, 60])
def test_damage_that_keeps_the_size_is_one_sentence(index: Path, kept: int) -> None:
    file = index / PATHS / "keys.npy"
    content = file.read_bytes()
    file.write_bytes(content[:kept] + bytes(len(content) - kept))
    with pytest.raises(IndexIncomplete) as caught:
        _ = Store(index).paths.trie
    assert str(caught.value) == f"The path index in '{index / PATHS}' is damaged: build it again."


def test_a_part_that_the_manifest_does_not_miss_is_missed(index: Path) -> None:
    (index / PATHS / "keys.npy").rename(index / PATHS / "kees.npy")
    with pytest.raises(IndexIncomplete):
        _ = PathIndex(index / PATHS).trie
