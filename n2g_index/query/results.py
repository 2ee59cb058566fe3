"""What does every question answer with?

A `Results` is an immutable sequence of small frozen records, all of one kind, that turns into dictionaries,
an Arrow table or a data frame. `total` counts what there is beyond the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from n2g_index.errors import MissingExtra

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Results(Sequence[Row], Generic[Row]):
    """Records in the order in which they answer the question."""

    rows: tuple[Row, ...]
    kind: type[Row]
    """The dataclass of the rows; it names the columns even when there are none."""

    total: int
    """How many there are without limit and offset."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        return self.rows[at]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the fields of a row."""
        return tuple(field.name for field in fields(self.kind))  # type: ignore[arg-type]

    def dicts(self) -> list[dict[str, Any]]:
        """One dictionary per row."""
        return [asdict(row) for row in self.rows]  # type: ignore[call-overload]

    def arrow(self) -> pa.Table:
        """An Arrow table.

        Raises:
            MissingExtra: without pyarrow.
        """
        try:
            import pyarrow
        except ImportError as error:
            raise MissingExtra("An Arrow table", "build") from error
        return pyarrow.table({name: [getattr(row, name) for row in self.rows] for name in self.columns})

    def df(self) -> pd.DataFrame:
        """A pandas data frame.

        Raises:
            MissingExtra: without pandas.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtra("A data frame", "pandas") from error
        return pandas.DataFrame(self.dicts(), columns=list(self.columns))
