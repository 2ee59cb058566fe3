"""The reading commands, as a user runs them: in a process of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from n2g_index.store.manifest import DATABASE, MANIFEST
from n2g_index.store.records import OptimumRow
from tests.making import reading, write_index

VOCABULARY = [" import", "Import", "from", " as", "\n", "</script>", " new york"]


READ_ONLY = "The index is read-only: give exactly one SELECT statement."
RANGES = "--layer 'x' is not a list of numbers and ranges such as 0-3 or 0,2,5-7."
NO_INDEX = "There is no index at 'no.n2g': build one, or name another with --index."
INVALID = "Invalid value for"
ROLES = "'activating', 'context'"


class Done(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


def run(folder: Path, *args: str, **environment: str) -> Done:
    """Run the command in a folder."""
    env = {key: value for key, value in os.environ.items() if key != "N2G_INDEX"} | environment
    done = subprocess.run(
        [sys.executable, "-m", "n2g_index", *args],
        cwd=folder,
        env=env,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def answer(folder: Path, *args: str, **environment: str) -> str:
    """Standard output of a run that must succeed silently."""
    done = run(folder, *args, **environment)
    assert (done.code, done.err) == (0, "")
    return done.out


def data(folder: Path, *args: str) -> Any:
    return json.loads(answer(folder, *args, "--json"))


def failure(folder: Path, *args: str, **environment: str) -> tuple[int, str]:
    """Exit code and sentence of a run that must fail with exactly one line."""
    done = run(folder, *args, **environment)
    assert done.out == ""
    assert re.fullmatch(r"Error: [^\n]+\n", done.err), done.err
    return done.code, done.err.removeprefix("Error: ").rstrip("\n")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one index."""
    folder = tmp_path_factory.mktemp("cli")
    write_index(
        folder / "toy.n2g",
        {
            (0, 1): [reading(VOCABULARY, "from", None, " import", activation=0.75)],
            (1, 2): [reading(VOCABULARY, " import", " as"), reading(VOCABULARY, "\n")],
            (2, 3): [reading(VOCABULARY, "Import")],
            (2, 4): [reading(VOCABULARY, "</script>", " new york")],
        },
        VOCABULARY,
        f1={(0, 1): 0.5, (1, 2): 0.75},
        windows=[[2, 3, 0], [0, 4, 5]],
        examples={(0, 1): [(0, [0.0, 0.5, 2.0]), (1, [1.0, 0.0, 0.25])], (1, 2): [(0, [0.0, 2.0, 0.0])]},
        optima={
            (0, 1): [OptimumRow(0, (4, 3, 1), 1.25, 0.875, exact=False, n_changes=2, n_tried=1200)],
            (1, 2): [OptimumRow(0, (2, 3), 0.75, 0.75, exact=True, n_changes=0, n_tried=6)],
        },
        dead=[(0, 0)],
        failed={(0, 2): "RuntimeError: too odd"},
    )
    return folder


@pytest.fixture
def damaged(here: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the index that may be damaged."""
    shutil.copytree(here / "toy.n2g", tmp_path / "toy.n2g")
    return tmp_path


# what commands print


def test_info(here: Path) -> None:
    out = answer(here, "info")
    assert out.startswith("toy.n2g: toy, read at blocks.{layer}.mlp.hook_post\n")
    assert "corpus toy: 6 tokens, 2 windows of 3\n" in out
    assert [line.split() for line in out.splitlines()[-3:]] == [
        ["0", "3", "1", "1", "1", "1.00", "2.00", "0"],
        ["1", "1", "0", "0", "2", "2.00", "1.00", "1"],
        ["2", "2", "0", "0", "2", "1.00", "0.50", "0"],
    ]


def test_info_json(here: Path) -> None:
    found = data(here, "info")
    assert {key: found[key] for key in ("path", "format_version", "model", "hook", "corpus", "versions")} == {
        "path": "toy.n2g",
        "format_version": 2,
        "model": "toy",
        "hook": "blocks.{layer}.mlp.hook_post",
        "corpus": {"names": ["toy"], "windows": 2, "window": 3, "tokens": 6},
        "versions": {"n2g-index": "test"},
    }
    assert found["layers"][1] == {
        "layer": 1,
        "neurons": 1,
        "dead": 0,
        "failed": 0,
        "paths": 2,
        "mean_paths": 2.0,
        "mean_depth": 1.0,
        "polysemantic": 1,
    }


def test_search(here: Path) -> None:
    out = answer(here, "search", " import")
    rows = [re.split(r" {2,}", line.strip()) for line in out.splitlines()]
    assert [(row[0], row[1], row[2], row[-1]) for row in rows[1:4]] == [
        ("L0N1", "activating", "exact", "from * [␣import]"),
        ("L1N2", "context", "exact", "␣import [␣as]"),
        ("L2N3", "activating", "folded", "[Import]"),
    ]
    assert rows[-1] == ["3 of 3 neurons"]


def test_search_json(here: Path) -> None:
    found = data(here, "search", " import", "--role", "activating", "--layer", "0,1", "--limit", "1")
    assert found == [
        {
            "neuron": "L0N1",
            "layer": 0,
            "index": 1,
            "role": "activating",
            "match": "exact",
            "f1": 0.5,
            "share": 1.0,
            "activation": 0.75,
            "max_activation": 2.0,
            "path": "from * [␣import]",
        }
    ]


def test_search_with_options(here: Path) -> None:
    assert answer(here, "search", " import", "--names") == "L0N1\nL1N2\nL2N3\n"
    assert answer(here, "search", " import", "--names", "--offset", "1", "--limit", "1") == "L1N2\n"
    assert answer(here, "search", " import", "--names", "--min-f1", "0.6") == "L1N2\n"
    assert answer(here, "search", "\n", "--names") == "L1N2\n"
    assert answer(here, "search", "</script>", "--names") == "L2N4\n"


def test_search_that_finds_nothing(here: Path) -> None:
    said = "No neuron has ' import' in its graph under these conditions.\n"
    assert answer(here, "search", " import", "--layer", "7") == said
    assert data(here, "search", " import", "--layer", "7") == []
    assert answer(here, "search", " import", "--layer", "7", "--names").strip() == ""


def test_no_names_are_no_lines(here: Path) -> None:
    assert answer(here, "search", " import", "--layer", "7", "--names") == ""


def test_show(here: Path) -> None:
    out = answer(here, "show", "0:1")
    assert "max activation 2.00; fires on 25 % of tokens; precision 0.50, recall 0.50, F1 0.50" in out
    assert "L0N1 of toy\n␣import ← * ← from ×1 ● .75\n" in out


def test_show_prints_what_drives_the_neuron_hardest(here: Path) -> None:
    assert answer(here, "show", "L0N1").splitlines()[-4:] == [
        "strongest example          1.00  from ␣as [␣import]",
        "strongest minimal context  0.88  from ␣as [␣import]",
        "optimum                    1.25  ⟨from→⏎⟩ ␣as [⟨␣import→Import⟩]",
        "⟨original→substitute⟩ · 1,200 combinations tried, there are more",
    ]
    assert answer(here, "show", "L1N2").splitlines()[-4:] == [
        "strongest example          1.00  from [␣as]",
        "strongest minimal context  0.75  from [␣as]",
        "optimum                    0.75  the same",
        "no combination of substitutes is stronger · 6 combinations tried",
    ]
    assert "optimum" not in answer(here, "show", "L2N3")


def test_show_json(here: Path) -> None:
    found = data(here, "show", "l1/n2")
    assert (found["name"], found["status"], found["max_activation"]) == ("L1N2", "ok", 2.0)
    assert found["labels"] == {"0": " import", "3": " as", "4": "\n"}
    assert found["path_texts"] == ["␣import [␣as]", "[⏎]"]
    assert [path["tokens"] for path in found["trie"]["paths"]] == [[3, 0], [4]]
    assert [node["component"] for node in found["graph"]["nodes"]] == [0, 1, 0]
    assert data(here, "show", "L0N1")["optima"] == [
        {
            "rank": 0,
            "tokens": ["\n", " as", "Import"],
            "original": ["from", " as", " import"],
            "substituted": [0, 2],
            "activation": 1.25,
            "original_activation": 0.875,
            "exact": False,
            "n_tried": 1200,
        }
    ]


def test_show_a_dead_and_a_failed_neuron(here: Path) -> None:
    assert "dead: it is positive nowhere in the corpus" in answer(here, "show", "L0N0")
    assert "failed: RuntimeError: too odd" in answer(here, "show", "L0N2")
    assert data(here, "show", "L0N2")["error"] == "RuntimeError: too odd"


@pytest.mark.parametrize("neuron", ["L2N4", "L0N0"])
def test_show_writes_well_formed_svg(here: Path, tmp_path: Path, neuron: str) -> None:
    out = answer(here, "show", neuron, "--svg", str(tmp_path / "graph.svg"))
    assert out.endswith(f"wrote {tmp_path / 'graph.svg'}\n")
    root = ET.parse(tmp_path / "graph.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    if neuron == "L2N4":
        assert "</script>" in "".join(root.itertext())


def test_examples(here: Path) -> None:
    assert answer(here, "examples", "L0N1") == (
        "#0  train  2.00  doc0\nfrom as[␣import 1.00]\n\n"
        "#1  test  1.00  doc1\n[␣import 0.50]⏎</script>\n\n"
    )  # fmt: skip


def test_examples_json(here: Path) -> None:
    assert data(here, "examples", "L0N1", "--split", "test") == [
        {
            "rank": 1,
            "split": "test",
            "source": "doc1",
            "max_activation": 1.0,
            "pivot": 0,
            "tokens": [" import", "\n", "</script>"],
            "activations": [0.5, 0.0, 0.125],
            "fires": [True, False, False],
        }
    ]
    assert [row["rank"] for row in data(here, "examples", "L0N1", "--limit", "1")] == [0]
    assert data(here, "examples", "L0N0") == []


def test_examples_of_a_dead_neuron(here: Path) -> None:
    assert answer(here, "examples", "L0N0") == "L0N0 is positive nowhere in the corpus.\n"


@pytest.mark.parametrize("args", [["L0N2"], ["L2N3", "--split", "test"]])
def test_examples_that_are_missing_for_another_reason(here: Path, args: list[str]) -> None:
    assert "positive nowhere" not in answer(here, "examples", *args)


def test_scores(here: Path) -> None:
    lines = [line.split() for line in answer(here, "scores").splitlines()]
    assert [line[:7] for line in lines if line[0] in ("0", "1", "all")] == [
        ["0", "n2g", "1", "0.500", "0.500", "0.500", "0.500"],
        ["0", "token_lookup", "1", "0.250", "0.250", "0.250", "0.250"],
        ["1", "n2g", "1", "0.750", "0.750", "0.750", "0.750"],
        ["1", "token_lookup", "1", "0.375", "0.375", "0.375", "0.375"],
        ["all", "n2g", "2", "0.625", "0.625", "0.625", "0.625"],
        ["all", "token_lookup", "2", "0.312", "0.312", "0.312", "0.312"],
    ]


def test_scores_json(here: Path) -> None:
    found = data(here, "scores")
    assert [(row["layer"], row["method"], row["f1"]) for row in found if row["method"] == "n2g"] == [
        (0, "n2g", 0.5),
        (1, "n2g", 0.75),
        (None, "n2g", 0.625),
    ]
    # tp 500, fp 500, fn 500, tn 7000
    assert found[0]["non_firing_precision"] == found[0]["non_firing_recall"] == 7000 / 7500


def test_sql(here: Path) -> None:
    out = answer(here, "sql", "select name, n_paths, error from neurons where layer = 0 order by name")
    assert [re.split(r" {2,}", line.strip()) for line in out.splitlines()] == [
        ["name", "n_paths", "error"],
        ["L0N0", "0", "–"],
        ["L0N1", "1", "–"],
        ["L0N2", "0", "RuntimeError: too odd"],
    ]
    assert answer(here, "sql", "select name from neurons where false") == "name\n"


def test_sql_json(here: Path) -> None:
    columns = "name, tokens, 1.5::double as d, null as n, true as t"
    rows = "paths join neurons using (neuron_id) order by name, path_id limit 1"
    assert data(here, "sql", f"select {columns} from {rows}") == [
        {"name": "L0N1", "tokens": [0, -1, 2], "d": 1.5, "n": None, "t": True}
    ]
    assert data(here, "sql", "select name from neurons where false") == []


def test_sql_says_when_there_is_more(here: Path) -> None:
    done = run(here, "sql", "select * from range(9)", "--limit", "2", "--json")
    assert json.loads(done.out) == [{"range": 0}, {"range": 1}]
    assert (done.code, done.err) == (0, "There are more than 2 rows: raise --limit to see them.\n")


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        (
            "select 170141183460469231731687303715884105727 as a",
            [{"a": 170141183460469231731687303715884105727}],
        ),
        ("select 0.5 as a", [{"a": 0.5}]),
        ("select 'nan'::double as a, date '2026-01-02' as b", [{"a": None, "b": "2026-01-02"}]),
        ("select {'x': [1, 2]} as a", [{"a": {"x": [1, 2]}}]),
    ],
)
def test_sql_json_of_other_types(here: Path, statement: str, rows: list[dict[str, Any]]) -> None:
    assert data(here, "sql", statement) == rows


def test_sql_json_keeps_columns_of_the_same_name(here: Path) -> None:
    assert sorted(data(here, "sql", "select 1 as a, 2 as a")[0].values()) == [1, 2]


def test_control_characters_are_never_printed_raw(here: Path) -> None:
    out = answer(here, "sql", "select chr(27) || '[31m' as a")
    assert out == "a\n␛[31m\n"


# which index is read


def test_the_only_index_in_the_folder_is_read(here: Path, tmp_path: Path) -> None:
    assert answer(here, "sql", "select 1 as a") == "a\n1\n"
    assert answer(tmp_path, "sql", "select 1 as a", "--index", str(here / "toy.n2g")) == "a\n1\n"
    assert answer(tmp_path, "sql", "select 1 as a", N2G_INDEX=str(here / "toy.n2g")) == "a\n1\n"
    assert answer(here, "sql", "select 1 as a", "--index", "toy.n2g", N2G_INDEX="no.n2g") == "a\n1\n"
    assert answer(here, "sql", "select 1 as a", N2G_INDEX="") == "a\n1\n"
    assert failure(here, "info", N2G_INDEX="no.n2g") == (1, NO_INDEX)


def test_no_index_in_the_folder(tmp_path: Path) -> None:
    assert failure(tmp_path, "info") == (
        1,
        "There is no *.n2g index in this folder: build one with 'n2g-index build', or name one with --index.",
    )


def test_several_indexes_in_the_folder(damaged: Path) -> None:
    shutil.copytree(damaged / "toy.n2g", damaged / "other.n2g")
    assert failure(damaged, "info") == (
        1,
        "There are several indexes here (other.n2g, toy.n2g): choose one with --index.",
    )
    assert answer(damaged, "info", "--index", "other.n2g").startswith("other.n2g: toy")


# failures


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["show", "L3N0"], 1, "There is no L3N0: toy has layers 0 to 2."),
        (["show", "L0N8"], 1, "There is no L0N8: the layers of toy have neurons 0 to 7."),
        (["examples", "0:5"], 1, "L0N5 was not built into this index."),
        (["show", "L9Nx"], 2, "'L9Nx' is not a neuron name: write L3N15 (or 3:15, 3_15, 3/15)."),
        (["examples", ""], 2, "'' is not a neuron name: write L3N15 (or 3:15, 3_15, 3/15)."),
        (
            ["search", " import", "--layer", "x"],
            2,
            "--layer 'x' is not a list of numbers and ranges such as 0-3 or 0,2,5-7.",
        ),
        (
            ["search", " import", "--limit", "0"],
            2,
            "Invalid value for '--limit': 0 is not in the range x>=1.",
        ),
        (
            ["search", " import", "--role", "x"],
            2,
            "Invalid value for '--role': 'x' is not one of 'activating', 'context'.",
        ),
        (["search"], 2, "Missing argument 'TOKEN'."),
        (["bogus"], 2, "No such command 'bogus'."),
        (
            ["info", "--index", "no.n2g"],
            1,
            "There is no index at 'no.n2g': build one, or name another with --index.",
        ),
        (["sql", "drop table neurons"], 1, READ_ONLY),
        (["sql", "insert into edges values (1, 2, 3)"], 1, READ_ONLY),
        (["sql", "select 1; select 2"], 1, READ_ONLY),
        (
            ["show", "L0N1", "--svg", "no/folder/a.svg"],
            1,
            "'no/folder/a.svg' cannot be written: No such file or directory.",
        ),
        (
            ["show", "L0N1", "--svg", "toy.n2g"],
            2,
            "Invalid value for '--svg': File 'toy.n2g' is a directory.",
        ),
    ],
)
def test_failures_are_one_sentence(here: Path, args: list[str], code: int, sentence: str) -> None:
    assert failure(here, *args) == (code, sentence)


def test_an_unknown_token_gets_suggestions(here: Path) -> None:
    code, sentence = failure(here, "search", "imprt")
    assert code == 1
    assert sentence.startswith(
        "'imprt' is not a token of this index's vocabulary; the closest are ' import', 'Import', "
    )


@pytest.mark.parametrize("statement", ["selekt 1", "select", "select x from y", "from '/etc/passwd'"])
def test_malformed_sql(here: Path, statement: str) -> None:
    code, sentence = failure(here, "sql", statement)
    assert code == 1
    assert sentence.startswith("SQL: ")


@pytest.mark.parametrize("args", [["info"], ["search", " import"], ["show", "L0N1"], ["sql", "select 1"]])
def test_a_half_written_index(damaged: Path, args: list[str]) -> None:
    (damaged / "toy.n2g" / MANIFEST).unlink()
    assert failure(damaged, *args) == (
        1,
        "'toy.n2g' is not a finished index (it has no manifest.json): run the build again.",
    )


def test_a_cut_off_index(damaged: Path) -> None:
    database = damaged / "toy.n2g" / DATABASE
    size = database.stat().st_size
    os.truncate(database, 4096)
    assert failure(damaged, "info") == (
        1,
        f"The index 'toy.n2g' is incomplete: {DATABASE} has 4096 bytes instead of {size}; build it again.",
    )


def test_an_index_of_another_version(damaged: Path) -> None:
    manifest = damaged / "toy.n2g" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"format_version": 2', '"format_version": 9'))
    assert failure(damaged, "info") == (
        1,
        "'toy.n2g' has format version 9, this n2g-index reads 2: "
        "build it again, or install the n2g-index that wrote it.",
    )


@pytest.mark.parametrize(
    "args",
    [
        ["show", f"L{10**40}N1"],
        ["show", "L" + "9" * 5000 + "N1"],
        ["search", " import", "--layer", str(10**20)],
        ["search", os.fsdecode(b"\xff")],
        ["sql", "select 'a" + os.fsdecode(b"\xff") + "'"],
        ["sql", "select interval 100000000 years"],
    ],
    ids=["huge layer", "very huge layer", "huge layer to search", "bytes", "bytes in SQL", "huge interval"],
)
def test_odd_requests_fail_in_one_sentence(here: Path, args: list[str]) -> None:
    code, _ = failure(here, *args)
    assert code in (1, 2)


def test_no_command_is_help_and_no_error(here: Path) -> None:
    assert not run(here).err.startswith("Error: Usage:")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_is_full(here: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "n2g_index", "info"],
            cwd=here,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr.count("\n"), done.stderr[:7]) == (1, 1, "Error: ")


def test_an_output_that_is_not_unicode(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "n2g_index", "show", "L0N1", "--index", "toy.n2g"],
        cwd=here,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        encoding="latin-1",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2423import" in done.stdout


# processes


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_a_closed_pipe_is_no_error(here: Path, args: list[str]) -> None:
    statement = "select repeat('x', 100) from range(30000)"
    command = [sys.executable, "-m", "n2g_index", "sql", statement, "--limit", "30000", *args]
    with subprocess.Popen(
        command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() != ""
        process.stdout.close()
        assert process.stderr.read() == ""


def test_reading_imports_no_torch(here: Path) -> None:
    code = (
        "import sys; from n2g_index.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as leave: assert not leave.code\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'datasets', 'pyarrow', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    svg = str(here / "torch.svg")
    commands: list[list[str]] = [
        ["info"],
        ["search", " import"],
        ["show", "L0N1", "--svg", svg],
        ["examples", "L0N1", "--json"],
        ["scores"],
        ["sql", "select 1"],
        ["build", "--help"],
    ]
    for args in commands:
        done = subprocess.run(
            [sys.executable, "-c", code, *args], cwd=here, capture_output=True, text=True, check=False
        )
        assert (args, done.returncode, done.stderr) == (args, 0, "[]\n")


def test_help_names_every_command(here: Path) -> None:
    out = answer(here, "--help")
    assert re.findall(r"^  (\w+) +\S", out.split("Commands:")[1], re.MULTILINE) == [
        "build", "info", "search", "show", "examples", "scores", "sql",
    ]  # fmt: skip
    assert answer(here, "--version").startswith("n2g-index, version ")
