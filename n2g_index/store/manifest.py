"""Which parts make up an index, and are they whole?

`manifest.json` is written last: a folder without one is not an index. It holds the format version, what the
index was made from and with, and size and SHA-256 of every file of the other parts. Opening checks versions
and sizes; no file is read whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from n2g_index.config import FORMAT_VERSION
from n2g_index.errors import IndexIncomplete, IndexNotFound, IndexVersionError

MANIFEST = "manifest.json"
DATABASE = "neurons.duckdb"
FULLTEXT = "fulltext"
PATHS = "paths"

_LOCKS = (".tantivy-meta.lock", ".tantivy-writer.lock")
"""Left in the folder by tantivy; no part of the index."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `manifest.json`."""

    format_version: int
    generation: int
    """1 for a first build; later changes of the index count up."""

    model: dict[str, Any]
    """Name and weights digest."""

    corpus: dict[str, Any]
    """What was read, how many windows and tokens, and their digest."""

    parameters: dict[str, Any]
    """Every parameter of the build."""

    files: dict[str, dict[str, Any]]
    """`bytes` and `sha256` of each file, by its path inside the index."""


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and digest of every file of an index, by relative path."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST and path.name not in _LOCKS
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into a finished folder."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest, option=options))


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of an index.

    Raises:
        IndexNotFound: when there is no such folder.
        IndexIncomplete: when it holds no manifest, or a part is missing or cut off.
        IndexVersionError: when it was written in another format version.
    """
    if not folder.is_dir():
        raise IndexNotFound(f"There is no index at {str(folder)!r}: build one, or name another with --index.")
    if not (folder / MANIFEST).is_file():
        raise IndexIncomplete(
            f"{str(folder)!r} is not a finished index (it has no {MANIFEST}): run the build again."
        )
    try:
        content = orjson.loads((folder / MANIFEST).read_bytes())
        version = content["format_version"]
        if version != FORMAT_VERSION:
            raise IndexVersionError(
                f"{str(folder)!r} has format version {version}, this n2g-index reads {FORMAT_VERSION}: "
                "build it again, or install the n2g-index that wrote it."
            )
        manifest = Manifest(**content)
        expected = {name: int(facts["bytes"]) for name, facts in manifest.files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexIncomplete(f"The manifest of {str(folder)!r} is damaged: run the build again.") from error
    for name, n_bytes in expected.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != n_bytes:
            problem = "is missing" if size is None else f"has {size} bytes instead of {n_bytes}"
            raise IndexIncomplete(
                f"The index {str(folder)!r} is incomplete: {name} {problem}; build it again."
            )
    return manifest
