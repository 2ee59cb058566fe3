"""n2g-index: which neurons do that?

A searchable Neuron-to-Graph index of every MLP neuron of a language model. `open` reads an index;
`n2g_index.build.build` (needs the [build] extra) makes one. What is heavy is imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from n2g_index.config import BuildConfig, N2GConfig
from n2g_index.errors import N2GError

if TYPE_CHECKING:
    import os

    from n2g_index.index import Index as Index

__version__ = "0.1.0"
__all__ = ["BuildConfig", "Index", "N2GConfig", "N2GError", "__version__", "open"]

_LAZY = {"Index": "n2g_index.index"}


def open(path: str | os.PathLike[str] | None = None) -> Index:
    """Open a built index: `path`, else $N2G_INDEX, else the only `*.n2g` in the current folder.

    Raises:
        IndexNotFound, IndexIncomplete, IndexVersionError: when it cannot be read.
    """
    from n2g_index.index import Index, find_index

    return Index(find_index(path))


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
