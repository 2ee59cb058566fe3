"""The one door to a built index.

    import n2g_index
    index = n2g_index.open("demo.n2g")
    index.search(" import")
    index.neuron("L1N377")

Every method answers one question and is one command; the modules under `query/` say what each costs.
Opening reads the manifest and connects to the tables; torch is never imported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from n2g_index.errors import IndexNotFound
from n2g_index.query.info import IndexInfo, get_info
from n2g_index.query.neuron import Example, Neuron, get_examples, get_neuron
from n2g_index.query.results import Results
from n2g_index.query.scores import LayerScore, get_scores
from n2g_index.query.search import SearchHit, search
from n2g_index.store.fulltext import Role
from n2g_index.store.reader import Answer, Store

ENVIRONMENT = "N2G_INDEX"
"""Environment variable that names the index to read."""


def find_index(path: str | os.PathLike[str] | None = None) -> Path:
    """The index to read: `path`, else $N2G_INDEX, else the only `*.n2g` in the current folder.

    Raises:
        IndexNotFound: when none of these names one.
    """
    named = path if path is not None else os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    here = sorted(Path().glob("*.n2g"))
    if len(here) == 1:
        return here[0]
    if here:
        names = ", ".join(str(found) for found in here)
        raise IndexNotFound(f"There are several indexes here ({names}): choose one with --index.")
    raise IndexNotFound(
        "There is no *.n2g index in this folder: build one with 'n2g-index build', or name one with --index."
    )


class Index:
    """A built index, opened read-only."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open an index folder.

        Raises:
            IndexNotFound, IndexIncomplete, IndexVersionError: when it cannot be read.
        """
        self._store = Store(Path(path))

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Index({str(self._store.folder)!r})"

    def close(self) -> None:
        """Give the files up."""
        self._store.close()

    def info(self) -> IndexInfo:
        """What is in this index, and how was it made?"""
        return get_info(self._store)

    def search(
        self,
        token: str,
        *,
        role: Role | None = None,
        layers: Sequence[int] | None = None,
        min_f1: float | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> Results[SearchHit]:
        """Which neurons have to do with this token? See `n2g_index.query.search`."""
        return search(self._store, token, role=role, layers=layers, min_f1=min_f1, limit=limit, offset=offset)

    def neuron(self, name: str) -> Neuron:
        """What does one neuron do? See `n2g_index.query.neuron`."""
        return get_neuron(self._store, name)

    def examples(self, name: str, *, limit: int = 5, split: str | None = None) -> Results[Example]:
        """On which windows is a neuron strongest?"""
        return get_examples(self._store, name, limit=limit, split=split)

    def scores(self) -> Results[LayerScore]:
        """How well do the graphs predict their neurons?"""
        return get_scores(self._store)

    def sql(self, statement: str, *, limit: int | None = None) -> Answer:
        """Any reading SQL over the tables of `schemas/index.sql`.

        Raises:
            QueryError: when the statement is malformed, writes, or reaches outside the index.
        """
        return self._store.user_query(statement, limit)
