"""How is a built index read?

Opening checks the manifest (see `manifest.py`), then connects read-only: no statement can write, and none can
reach files, the network, extensions or settings. Nothing is loaded into memory until it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from n2g_index.errors import IndexIncomplete, QueryError
from n2g_index.store.fulltext import FullText
from n2g_index.store.manifest import DATABASE, FULLTEXT, Manifest, read_manifest

_READ_ONLY = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


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
        try:
            self._db = duckdb.connect(
                str(folder / DATABASE),
                read_only=True,
                config={"enable_external_access": "false", "lock_configuration": "true"},
            )
        except duckdb.Error as error:
            raise IndexIncomplete(
                f"The tables of {str(folder)!r} cannot be read: build the index again."
            ) from error

    @cached_property
    def fulltext(self) -> FullText:
        return FullText(self.folder / FULLTEXT)

    def close(self) -> None:
        self._db.close()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Answer:
        """Run one of our own statements."""
        cursor = self._db.execute(sql, list(parameters))
        return Answer(tuple(column[0] for column in cursor.description or ()), cursor.fetchall())

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
            if len(statements) != 1 or statements[0].type not in _READ_ONLY:
                raise QueryError("The index is read-only: give exactly one SELECT statement.")
            cursor = self._db.execute(statements[0])
            columns = tuple(column[0] for column in cursor.description or ())
            return Answer(columns, cursor.fetchall() if limit is None else cursor.fetchmany(limit))
        except duckdb.Error as error:
            raise QueryError(f"SQL: {' '.join(str(error).split())}") from error
