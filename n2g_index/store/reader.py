"""How is a built index read?

Opening checks the manifest (see `manifest.py`), then connects read-only: no statement can write, and none can
reach files, the network, extensions or settings. Nothing is loaded into memory until it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from n2g_index.errors import IndexIncomplete, QueryError
from n2g_index.store.fulltext import FullText
from n2g_index.store.manifest import DATABASE, FULLTEXT, PATHS, Manifest, read_manifest
from n2g_index.store.pathindex import PathIndex

_READ_ONLY = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
_RUNS_IT = re.compile(r"\bexplain\b.*\banaly[sz]e\b", re.I | re.S)
_CORRUPT = "Corrupt database file"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a SQL query gave."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        """One dictionary per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Store:
    """An opened index folder."""

    def __init__(self, folder: Path) -> None:
        """Open it read-only.

        Raises:
            IndexReadError: when it is missing, incomplete or of another format version.
        """
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        # All parts are opened now: a reader keeps the index that it opened, also when it is replaced.
        self.fulltext = FullText(folder / FULLTEXT)
        self.paths = PathIndex(folder / PATHS)
        try:
            self._db = _connect(folder / DATABASE)
        except duckdb.Error as error:
            raise self._damaged() from error

    def _damaged(self) -> IndexIncomplete:
        return IndexIncomplete(f"The tables of {str(self.folder)!r} are damaged: build the index again.")

    def close(self) -> None:
        self._db.close()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Answer:
        """Run one of our own statements.

        Raises:
            IndexIncomplete: when the tables are damaged.
        """
        try:
            cursor = self._db.execute(sql, list(parameters))
            return Answer(_columns(cursor), cursor.fetchall())
        except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException) as error:
            raise self._damaged() from error
        except duckdb.Error as error:
            if _CORRUPT in str(error):
                raise self._damaged() from error
            raise

    def user_query(self, sql: str, limit: int | None = None) -> Answer:
        """Run a user's statement.

        Args:
            sql: one SELECT (or EXPLAIN, DESCRIBE, SHOW, SUMMARIZE) statement.
            limit: most rows fetched; None for all.

        Raises:
            QueryError: when it is malformed, is not one reading statement, or reaches outside the index.
        """
        try:
            statements = self._db.extract_statements(sql)
            kinds = [statement.type for statement in statements]
            runs_it = kinds == [duckdb.StatementType.EXPLAIN] and _RUNS_IT.search(sql)
            if len(kinds) != 1 or kinds[0] not in _READ_ONLY or runs_it:
                raise QueryError("The index is read-only: give exactly one SELECT statement.")
            cursor = self._db.execute(statements[0])
            return Answer(_columns(cursor), cursor.fetchall() if limit is None else cursor.fetchmany(limit))
        except (duckdb.Error, OverflowError, ValueError) as error:
            if _CORRUPT in str(error):
                raise self._damaged() from error
            raise QueryError(f"SQL: {_one_line(error)}") from error


def _connect(file: Path) -> duckdb.DuckDBPyConnection:
    """Open the tables read-only in a database instance of their own.

    DuckDB hands one process the same instance for the same path, so a file that has been replaced would go
    on being read by whoever opens its path next; attached to an instance in memory, it is opened afresh.
    """
    db = duckdb.connect(":memory:")
    quoted = str(file).replace("'", "''")
    db.execute(f"attach '{quoted}' as neurons_db (read_only)")
    db.execute("use neurons_db")
    db.execute("set enable_external_access = false")
    db.execute("set lock_configuration = true")
    return db


def _columns(cursor: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    """Column names, made distinct: `select 1 as a, 2 as a` has the columns a and a_1."""
    names: list[str] = []
    for name, *_ in cursor.description or ():
        distinct = name
        number = 0
        while distinct in names:
            number += 1
            distinct = f"{name}_{number}"
        names.append(distinct)
    return tuple(names)


def _one_line(error: Exception) -> str:
    """DuckDB's message; of one that quotes a Python traceback, only what it says itself."""
    text = str(error).split("Traceback (most recent call last)")[0]
    return " ".join(text.split()) or type(error).__name__
