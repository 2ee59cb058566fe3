"""Builds end to end: the same index from the same inputs, and one clear refusal for everything else."""

import errno
import json
import math
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import n2g_index
from n2g_index import BuildConfig
from n2g_index.build import build
from n2g_index.build.models.transformer_lens import TransformerLensModel
from n2g_index.build.progress import Silent
from n2g_index.cli.main import cli
from n2g_index.config import Method, N2GConfig
from n2g_index.errors import (
    BadParameter,
    BuildError,
    CorpusError,
    DiskError,
    ModelError,
    N2GError,
    NeuronNotFound,
)
from n2g_index.resources import embedded_model

TEXT = (
    "import numpy as np\nfrom pathlib import Path\n\n\ndef main(argv):\n    return [int(x) for x in argv]\n"
)
TABLES = ("models", "tokens", "neurons", "nodes", "edges", "graph_nodes", "graph_edges", "paths", "lattices",
          "optima", "examples", "windows", "scores")  # fmt: skip
SMALL = BuildConfig(layers=(0, 2), neurons=tuple(range(6)), max_tokens=12_000, window=64)


def contents(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    index = n2g_index.open(folder)
    return {table: index.sql(f"select * from {table} order by all").rows for table in TABLES}


def alike(a: object, b: object) -> bool:
    """Equal but for rounding: batches of another size sum in another order."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-5)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    return a == b


def test_an_index_holds_every_neuron_asked_for(tmp_path: Path) -> None:
    summary = build(SMALL, tmp_path / "a.n2g")
    index = n2g_index.open(tmp_path / "a.n2g")
    rows = index.sql(
        'select layer, "index", status, n_examples, n_paths, n_nodes from neurons order by neuron_id'
    ).rows
    assert [(layer, number) for layer, number, *_ in rows] == [
        (layer, n) for layer in (0, 2) for n in range(6)
    ]
    assert (summary.n_ok, summary.n_dead, summary.n_failed) == (
        sum(row[2] == "ok" for row in rows), sum(row[2] == "dead" for row in rows), 0,
    )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.n2g"]
    assert sorted(p.name for p in (tmp_path / "a.n2g").iterdir()) == [
        "fulltext",
        "manifest.json",
        "neurons.duckdb",
        "paths",
    ]
    consistent = """
        select count(*) from neurons n where
            n_paths <> (select count(*) from paths p where p.neuron_id = n.neuron_id)
            or n_nodes <> (select count(*) from nodes x where x.neuron_id = n.neuron_id)
            or n_paths <> (select count(*) from nodes x where x.neuron_id = n.neuron_id and is_end)
            or n_examples <> (select count(*) from examples e where e.neuron_id = n.neuron_id)
            or n_components <> (
                select count(distinct component) from graph_nodes g where g.neuron_id = n.neuron_id)
            or n_nodes - n_activating <> (select count(*) from edges e where e.neuron_id = n.neuron_id)
    """
    assert index.sql(consistent).rows == [(0,)]


@pytest.mark.parametrize("method", ["paper", "refined"])
def test_the_same_inputs_give_the_same_index_whatever_the_batches_and_chunks(
    tmp_path: Path, method: Method
) -> None:
    config = replace(SMALL, n2g=N2GConfig(method=method))
    build(replace(config, chunk=256, batch_tokens=4096), tmp_path / "a.n2g")
    build(replace(config, chunk=3, batch_tokens=512), tmp_path / "b.n2g")
    first, second = contents(tmp_path / "a.n2g"), contents(tmp_path / "b.n2g")
    for table in TABLES:
        assert len(first[table]) == len(second[table]) > 0, table
        for one, other in zip(first[table], second[table], strict=True):
            assert alike(one, other), (table, one, other)


def test_the_papers_method_is_scored_beside_the_refined_one(tmp_path: Path) -> None:
    build(SMALL, tmp_path / "refined.n2g")
    build(replace(SMALL, n2g=N2GConfig(method="paper")), tmp_path / "paper.n2g")
    refined, paper = contents(tmp_path / "refined.n2g"), contents(tmp_path / "paper.n2g")

    def scores(table: list[tuple[object, ...]]) -> dict[object, list[tuple[object, ...]]]:
        methods = {row[2] for row in table}
        return {m: [(*row[:2], *row[3:]) for row in table if row[2] == m] for m in methods}

    found = scores(refined["scores"])
    own = found.pop("n2g")
    assert {"n2g": found.pop("n2g_paper"), **found} == scores(paper["scores"])
    assert own != scores(paper["scores"])["n2g"]
    assert refined["paths"] != paper["paths"]
    for table in ("models", "tokens", "lattices", "optima", "examples", "windows"):
        assert refined[table] == paper[table] != [], table


def test_the_method_is_an_option_and_recorded(tmp_path: Path) -> None:
    small = ["--layers", "0", "--neurons", "0-1", "--max-tokens", "2000", "--window", "64"]
    small += ["--helper", "none", "--quiet", "--json"]
    for options, method in ((["--method", "paper"], "paper"), ([], "refined")):
        out = tmp_path / f"{method}.n2g"
        done = CliRunner().invoke(cli, ["build", *small, *options, "-o", str(out)])
        assert (done.exit_code, json.loads(done.stdout)["n_ok"]) == (0, 2)
        assert json.loads((out / "manifest.json").read_text())["parameters"]["n2g"]["method"] == method
    unknown = CliRunner().invoke(cli, ["build", "--method", "other"])
    assert unknown.exit_code == 2
    assert "'other' is not one of 'paper', 'refined'" in unknown.stderr


def test_manifest_says_how_it_was_made(tmp_path: Path) -> None:
    build(SMALL, tmp_path / "a.n2g")
    manifest = json.loads((tmp_path / "a.n2g" / "manifest.json").read_text())
    assert manifest["format_version"] == 2
    assert manifest["model"]["name"] == "embedded"
    assert manifest["parameters"]["n2g"]["importance_threshold"] == 0.75
    assert manifest["corpus"]["window"] == 64


def test_substitutes_only_add_paths(tmp_path: Path) -> None:
    config = replace(SMALL, n2g=N2GConfig(method="paper"))
    build(config, tmp_path / "with.n2g")
    build(replace(config, helper="none"), tmp_path / "without.n2g")
    paths = "select neuron_id, tokens from paths order by all"
    with_helper = {(i, tuple(p)) for i, p in n2g_index.open(tmp_path / "with.n2g").sql(paths).rows}
    without = {(i, tuple(p)) for i, p in n2g_index.open(tmp_path / "without.n2g").sql(paths).rows}
    assert without < with_helper


def test_own_text_and_own_model(tmp_path: Path, gpt2: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.py").write_text(TEXT * 40)
    config = BuildConfig(
        model=str(gpt2), corpus=(str(tmp_path / "texts"),), helper="none", window=31, neurons=tuple(range(8))
    )
    build(config, tmp_path / "own.n2g")
    index = n2g_index.open(tmp_path / "own.n2g")
    assert index.info().model == str(gpt2)
    assert index.sql("select distinct layer from neurons order by layer").rows == [(0,), (1,), (2,)]
    assert index.sql("select distinct source from windows").rows == [("a.py",)]


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"model": "nobody/nothing"}, ModelError, "neither a local folder nor a model"),
        ({"helper": "nobody/nothing"}, ModelError, "--helper none"),
        ({"corpus": ("missing.txt",)}, CorpusError, "missing.txt"),
        ({"corpus": ("EMPTY",)}, CorpusError, "holds no text"),
        ({"corpus": ("SHORT",)}, CorpusError, "fewer than one window"),
        ({"layers": (7,)}, NeuronNotFound, "its layers are 0 to 3"),
        ({"neurons": (768,)}, NeuronNotFound, "the last is L0N767"),
        ({"window": 300}, BadParameter, "does not fit"),
        ({"hook": "blocks.{layer}.nothing"}, ModelError, "--hook"),
        ({"device": "cuda:9"}, ModelError, "--device cpu"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    tmp_path: Path, change: dict[str, object], kind: type[N2GError], sentence: str
) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("import this\n")
    files = {"EMPTY": str(tmp_path / "empty.txt"), "SHORT": str(tmp_path / "short.txt")}
    if "corpus" in change:
        change = {"corpus": tuple(files.get(name, name) for name in change["corpus"])}  # type: ignore[attr-defined]
    with pytest.raises(kind, match=sentence) as caught:
        build(BuildConfig(**{"max_tokens": 2_000, "window": 64, **change}), tmp_path / "x.n2g")  # type: ignore[arg-type]
    assert str(caught.value).count("\n") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.txt", "short.txt"]


def test_an_index_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "x.n2g").mkdir()
    (tmp_path / "x.n2g" / "precious").write_text("kept")
    with pytest.raises(BuildError, match="--replace"):
        build(SMALL, tmp_path / "x.n2g")
    with pytest.raises(BuildError, match="not an index"):
        build(SMALL, tmp_path / "x.n2g", replace=True)
    assert (tmp_path / "x.n2g" / "precious").read_text() == "kept"


def test_nan_activations_are_recorded_as_failed(tmp_path: Path, embedded: TransformerLensModel) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    folder.mkdir()
    for file in embedded_model().iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights["blocks.1.mlp.in.weight"][3] = torch.nan
    save_file(weights, folder / "model.safetensors")
    config = BuildConfig(
        model=str(folder), helper="none", layers=(0, 1), neurons=(2, 3), max_tokens=3_000, window=64
    )
    summary = build(config, tmp_path / "x.n2g")
    index = n2g_index.open(tmp_path / "x.n2g")
    assert summary.n_failed == 2  # SoLU's softmax spreads one NaN over its whole layer
    ((status, error),) = index.sql("select status, error from neurons where name = 'L1N3'").rows
    assert status == "failed"
    assert "NaN" in error
    assert index.sql("select status from neurons where name = 'L0N2'").rows == [("ok",)]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    def no_file_above_2_mb() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))

    done = subprocess.run(
        [sys.executable, "-m", "n2g_index", "build", "--max-tokens", "12000", "--neurons", "0-63", "--window",
         "64", "--helper", "none", "--quiet", "-o", str(tmp_path / "x.n2g")],
        preexec_fn=no_file_above_2_mb, capture_output=True, text=True, env=os.environ, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        f"Error: There is no space left to write in {str(tmp_path)!r}: free some and run the build again."
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_the_scratch_file_is_found_before_it_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(DiskError, match="no space left"):
        build(SMALL, tmp_path / "x.n2g")
    assert list(tmp_path.iterdir()) == []


def test_what_was_skipped_is_said_also_when_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("café ".encode("latin-1") * 100)
    warned: list[str] = []

    class Listener(Silent):
        def warn(self, text: str) -> None:
            warned.append(text)

    with pytest.raises(CorpusError, match="holds no text"):
        build(BuildConfig(corpus=(str(tmp_path / "latin.txt"),)), tmp_path / "x.n2g", reporter=Listener())
    assert warned == ["skipped 1 file that is not UTF-8 (first: latin.txt)"]


def test_disk_error_is_a_build_error() -> None:
    assert issubclass(DiskError, BuildError)


def test_parameters_out_of_range_are_refused() -> None:
    for bad in (
        {"importance_threshold": 0.0},
        {"keep_threshold": 1.5},
        {"max_context": 0},
        {"max_substitutes": -1},
        {"max_combinations": 0},
    ):
        with pytest.raises(BadParameter):
            N2GConfig(**bad)
    for bad in ({"examples": 1}, {"chunk": 0}, {"window": 1}, {"batch_tokens": 0}):
        with pytest.raises(BadParameter):
            BuildConfig(**bad)  # type: ignore[arg-type]
