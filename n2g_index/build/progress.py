"""How does a build say where it is?

The build reports stages and steps to a `Reporter`; the command line shows them as bars, the library is silent
unless it is given one.
"""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Is told about every stage of a build."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """A new stage begins; `total` is None where it is not known."""
        ...

    def done(self, n: int) -> None:
        """So many units of the current stage are done by now."""
        ...

    def warn(self, text: str) -> None:
        """Something was skipped or is not as it should be; the build goes on."""
        ...


class Silent:
    """Reports nothing."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        pass

    def done(self, n: int) -> None:
        pass

    def warn(self, text: str) -> None:
        pass
