"""Where are the files that come with the package?

`data/` (embedded model, helper, corpus) and `schemas/` (DDL) stand beside the package in a checkout and
are copied inside it, as `_data` and `_schemas`, when a wheel is built.
"""

from __future__ import annotations

from pathlib import Path

from n2g_index.errors import BuildError

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    for folder in (_PACKAGE / f"_{name}", _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise BuildError(f"The package's own {name}/ folder is missing: install n2g-index again.")


def schema_sql() -> str:
    """The DDL of an index's tables."""
    return (_folder("schemas") / "index.sql").read_text(encoding="utf-8")


def embedded_model() -> Path:
    """Folder of the embedded target model."""
    return _folder("data") / "model"


def embedded_helper() -> Path:
    """Folder of the embedded masked-LM helper; its tokenizer is the embedded model's."""
    return _folder("data") / "helper"


def embedded_corpus() -> Path:
    """The embedded corpus, compressed JSONL."""
    return _folder("data") / "corpus" / "corpus.jsonl.zst"
