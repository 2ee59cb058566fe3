"""Every error that n2g-index raises on purpose.

    N2GError                       exit code 1 unless said otherwise
    ├── UsageError                 the request itself is wrong: exit code 2
    │   ├── BadNeuronName          `L9Nx` is not a neuron name
    │   └── BadParameter           an option's value makes no sense
    ├── IndexReadError             a built index cannot be read
    │   ├── IndexNotFound
    │   ├── IndexIncomplete        a part is missing, cut off or changed
    │   └── IndexVersionError      written in another format version
    ├── NotInIndex                 the index is fine, what was asked for is not in it
    │   ├── NeuronNotFound
    │   └── TokenNotFound          not in the vocabulary; carries suggestions
    ├── QueryError                 SQL that is malformed, writes, or asks for a file
    ├── ModelError                 a model or helper cannot be loaded or used
    ├── CorpusError                no usable text
    ├── BuildError                 a build cannot start or go on
    │   └── DiskError              no space left, no permission
    └── MissingExtra               an optional dependency is not installed

The message of each is one sentence a user can act on. `n2g_index.cli.main` is the only place that
turns them into output and exit codes.
"""

from __future__ import annotations

from collections.abc import Sequence


class N2GError(Exception):
    """Base of every error that n2g-index raises on purpose."""

    exit_code = 1


class UsageError(N2GError):
    """The request itself is wrong."""

    exit_code = 2


class BadNeuronName(UsageError):
    """A text that should name a neuron does not."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not a neuron name: write L3N15 (or 3:15, 3_15, 3/15).")


class BadParameter(UsageError):
    """An option's value makes no sense."""


class IndexReadError(N2GError):
    """A built index cannot be read."""


class IndexNotFound(IndexReadError):
    """There is no index where one was named or looked for."""


class IndexIncomplete(IndexReadError):
    """A part of an index is missing, cut off or changed."""


class IndexVersionError(IndexReadError):
    """The index was written in another format version."""


class NotInIndex(N2GError):
    """The index is fine; what was asked for is not in it."""


class NeuronNotFound(NotInIndex):
    """No such neuron in this index."""


class TokenNotFound(NotInIndex):
    """A text is not one token of the vocabulary.

    `suggestions` holds the closest tokens, best first.
    """

    def __init__(self, text: str, suggestions: Sequence[str]) -> None:
        self.suggestions = tuple(suggestions)
        near = ", ".join(repr(s) for s in self.suggestions)
        hint = f"the closest are {near}" if near else "nothing in the vocabulary is close to it"
        super().__init__(f"{text!r} is not a token of this index's vocabulary; {hint}.")


class QueryError(N2GError):
    """SQL that is malformed, writes, or reaches outside the index."""


class ModelError(N2GError):
    """A model or helper cannot be loaded or used."""


class CorpusError(N2GError):
    """A corpus holds no usable text."""


class BuildError(N2GError):
    """A build cannot start or go on."""


class DiskError(BuildError):
    """No space left, or no permission to write."""


class MissingExtra(N2GError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the [{extra}] extra: pip install 'n2g-index[{extra}]'.")
