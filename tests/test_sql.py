"""Does SQL read everything and touch nothing?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import n2g_index
from n2g_index.errors import QueryError
from n2g_index.index import Index
from n2g_index.store.manifest import describe_files
from n2g_index.store.reader import Answer
from n2g_index.store.records import OptimumRow
from tests.making import reading, write_index

VOCABULARY = ["from", " import", " as"]
READ_ONLY = "The index is read-only: give exactly one SELECT statement."


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = write_index(
        tmp_path_factory.mktemp("sql") / "toy.n2g",
        {
            (0, 3): [reading(VOCABULARY, "from", None, " import", activation=0.75)],
            (1, 0): [reading(VOCABULARY, " as")] * 3,
        },
        VOCABULARY,
        f1={(0, 3): 0.5},
        windows=[[0, 2, 1, 1]],
        examples={(0, 3): [(0, [0.0, 0.5, 2.0, 0.25])]},
        optima={(0, 3): [OptimumRow(0, (2, 0, 1), 1.25, 0.875, True, 1, 4)]},
        dead=[(1, 1)],
    )
    with n2g_index.open(folder) as opened:
        yield opened


def test_an_answer_has_columns_and_rows(index: Index) -> None:
    answer = index.sql("select name, n_paths as paths, status from neurons order by layer, n_paths desc")
    assert answer == Answer(
        ("name", "paths", "status"), [("L0N3", 1, "ok"), ("L1N0", 1, "ok"), ("L1N1", 0, "dead")]
    )
    assert answer.dicts()[0] == {"name": "L0N3", "paths": 1, "status": "ok"}


def test_the_tables_hold_what_was_written(index: Index) -> None:
    names = [row[0] for row in index.sql("show tables").rows]
    tables = {
        name: index.sql(f"select * from {name} order by all").rows for name in names if name != "builds"
    }
    del tables["neurons"], tables["models"]
    assert tables == {
        "tokens": [(0, 0, "from", "from"), (0, 1, " import", "import"), (0, 2, " as", "as")],
        "nodes": [
            (3, 0, None, 0, "activating", 1, 1.0, 0.75, False, None, 1),
            (3, 1, 0, 1, "ignore", -1, 0.0, 0.0, False, None, 1),
            (3, 2, 1, 2, "context", 0, 0.875, 0.125, True, 0.75, 1),
            (8, 0, None, 0, "activating", 2, 1.0, 1.0, True, 1.0, 3),
        ],
        "edges": [(3, 0, 1), (3, 1, 2)],
        "graph_nodes": [
            (3, 0, 0, "activating", 1, 1.0, 0.75, False, 0, False),
            (3, 1, 1, "context", 0, 0.875, 0.125, True, 0, True),
            (8, 0, 0, "activating", 2, 1.0, 1.0, True, 0, False),
        ],
        "graph_edges": [(3, 0, 1, 1)],
        "paths": [
            (3, 0, 3, 0.75, 1, [1, -1, 0], True, "from * [␣import]"),
            (8, 0, 1, 1.0, 3, [2], True, "[␣as]"),
        ],
        "lattices": [],
        "optima": [(3, 0, [2, 0, 1], 1.25, 0.875, True, 1, 4)],
        "examples": [(3, 0, "train", 0, 2, 2.0, [0.0, 0.5, 2.0, 0.25])],
        "windows": [(0, "toy", "doc0", 0, [], [], [0, 2, 1, 1])],
        "scores": [
            (3, "test", "n2g", 500, 500, 500, 7000, 0.5, 0.5, 0.5, 0.5),
            (3, "test", "token_lookup", 250, 750, 750, 7000, 0.25, 0.25, 0.25, 0.25),
        ],
    }  # fmt: skip


def test_the_table_of_builds_can_be_read(index: Index) -> None:
    (row,) = index.sql("select * from builds").dicts()
    assert row["n_dead"] == 1


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("from neurons select name limit 1", [("L0N3",)]),
        ("with n as (select 1 as a) select a + 1 from n", [(2,)]),
        ("values (1, 'a'), (2, 'b')", [(1, "a"), (2, "b")]),
        ("select 1;", [(1,)]),
        ("select 1 -- a comment; with a semicolon", [(1,)]),
        ("/* ; */ select ';'", [(";",)]),
        ('select "index", "pivot" from examples join neurons using (neuron_id)', [(3, 2)]),
        ('select e."pivot" from examples e', [(2,)]),
        ("select tokens[1] from paths where len(tokens) = 1", [(2,)]),
        ("select null", [(None,)]),
        ("select name from neurons where false", []),
        ("select count(*) from (describe neurons)", [(17,)]),
    ],
)
def test_reading_statements(index: Index, statement: str, rows: list[tuple[object, ...]]) -> None:
    assert index.sql(statement).rows == rows


@pytest.mark.parametrize(
    "statement", ["describe paths", "show tables", "summarize neurons", "explain select 1"]
)
def test_statements_about_tables(index: Index, statement: str) -> None:
    assert len(index.sql(statement).rows) >= 1


def test_limit(index: Index) -> None:
    assert index.sql("from range(10)", limit=3).rows == [(0,), (1,), (2,)]
    assert len(index.sql("from range(10)").rows) == 10


@pytest.mark.parametrize(
    "statement",
    [
        "insert into neurons select * from neurons",
        "update neurons set layer = 1",
        "delete from neurons",
        "truncate neurons",
        "drop table neurons",
        "alter table neurons rename to gone",
        "create table t (a integer)",
        "create temp table t (a integer)",
        "create view v as select 1",
        "create macro m() as 1",
        "comment on table neurons is 'x'",
        "attach 'other.duckdb'",
        "attach ':memory:' as m",
        "detach neurons",
        "use memory",
        "copy neurons to 'out.csv'",
        "copy (select 1) to 'out.csv'",
        "copy neurons from 'in.csv'",
        "export database 'out'",
        "import database 'in'",
        "install httpfs",
        "load httpfs",
        "set threads = 1",
        "set variable a = 1",
        "reset threads",
        "pragma database_list",
        "call pragma_version()",
        "checkpoint",
        "vacuum",
        "begin",
        "prepare p as select 1",
        "execute p",
        "select 1; select 2",
        "select 1; drop table neurons",
        "",
        " ",
        ";",
        "-- nothing",
    ],
)
def test_what_does_not_read_is_refused(index: Index, statement: str) -> None:
    with pytest.raises(QueryError) as caught:
        index.sql(statement)
    assert (str(caught.value), caught.value.exit_code) == (READ_ONLY, 1)


@pytest.mark.parametrize(
    "statement",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "select * from read_blob('/etc/passwd')",
        "select * from read_json('/etc/passwd')",
        "select * from read_parquet('/etc/passwd')",
        "select * from sniff_csv('/etc/passwd')",
        "select * from glob('/etc/*')",
        "from '/etc/passwd'",
        "from 'data.csv'",
        "from 'https://example.org/data.parquet'",
        "select * from query('drop table neurons')",
        "select * from VOCABULARY",  # a variable of the calling program
        "select getenv('HOME')",
        "select 1 from",
        "selekt 1",
        "select '",
        "select * from no_such_table",
        "select no_such_column from neurons",
        "select $1",
        "select 'a'::integer",
    ],
)
def test_what_is_wrong_or_reaches_outside_is_refused_in_one_line(
    index: Index, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("a\n1\n")
    with pytest.raises(QueryError) as caught:
        index.sql(statement)
    assert str(caught.value).startswith("SQL: ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize(
    "statement",
    [
        "explain analyze create temp table t as select 1",
        "explain analyze insert into edges select * from edges",
        "explain analyze copy (select 1) to 'out.csv'",
        "explain (analyze) set threads = 1",
    ],
)
def test_explain_analyze_runs_nothing(index: Index, statement: str) -> None:
    with pytest.raises(QueryError):
        index.sql(statement)


def test_a_value_that_python_cannot_hold(index: Index) -> None:
    with pytest.raises(QueryError):
        index.sql("select interval 100000000 years")


def test_nothing_has_changed(index: Index) -> None:
    folder = Path(index.info().path)
    n2g_index.open(folder).close()  # would refuse a part of another size
    with pytest.raises(QueryError):
        index.sql("delete from neurons")
    assert index._store.manifest.files == describe_files(folder)
