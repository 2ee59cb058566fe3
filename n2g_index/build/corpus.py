"""Where does the text come from?

A corpus is named by specs: a file, a folder, or `hf:NAME[:SPLIT]` for a Hugging Face dataset. Reading is
streamed and its order is fixed, so that the same specs give the same windows. A file or record that cannot
be used is left out and counted in `Skipped`, never dropped without a word.

    *.jsonl, *.ndjson             one JSON object per line, the text in its text field
    the same, *.json with .gz/.zst    compressed JSONL, as text dumps ship it
    *.parquet                     one row per document, the text in a column
    anything else                 one document (a plain *.json too: most are settings, not corpora);
                                  decompressed when it ends in .gz or .zst
"""

from __future__ import annotations

import gzip
import importlib
import io
import os
import textwrap
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from n2g_index.errors import CorpusError, MissingExtra

_JSONL = (".jsonl", ".ndjson")
_COMPRESSED_JSONL = tuple(f"{name}{packed}" for name in (*_JSONL, ".json") for packed in (".gz", ".zst"))
_BINARY_HEAD = 8192
"""Bytes of a text file that are searched for a NUL."""

_BOM = "\ufeff"
_UNREADABLE = (OSError, EOFError, zlib.error)
"""What opening or decompressing raises for a file that is cut off, corrupt or forbidden."""

_Unit = Literal["file", "folder", "record"]
_Raw = tuple[_Unit, str, object]
"""What was read, its source, and what stands where the text should be."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a corpus, never blank."""

    corpus: str
    """The spec as the user gave it."""

    source: str
    """Where in the corpus: `a/b.py`, `file.jsonl:LINE` (from 1; or the record's own `source`),
    `file.parquet:ROW` or `hf:NAME:SPLIT:ROW` (from 0)."""

    text: str


class Skipped:
    """Counts what a corpus held that could not be used, by reason, with the first example of each."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[_Unit, str]] = Counter()
        self._first: dict[tuple[_Unit, str], str] = {}

    def add(self, unit: _Unit, reason: str, example: str) -> None:
        """Count one; `reason` follows "files that are", or "files that have" if it begins with "no "."""
        self._counts[unit, reason] += 1
        self._first.setdefault((unit, reason), example)

    def warnings(self) -> list[str]:
        """One sentence per reason, in the order in which they came up."""
        sentences = []
        for (unit, reason), count in self._counts.items():
            what = f"1 {unit}" if count == 1 else f"{count} {unit}s"
            singular, plural = ("has", "have") if reason.startswith("no ") else ("is", "are")
            verb = singular if count == 1 else plural
            sentences.append(f"skipped {what} that {verb} {reason} (first: {self._first[unit, reason]})")
        return sentences


def read_documents(specs: Sequence[str], *, text_field: str = "text", skipped: Skipped) -> Iterator[Document]:
    """Read the documents of all specs, in the order given; folders in sorted order, hidden entries left out.

    Args:
        specs: files, folders, or `hf:NAME[:SPLIT]` (split `train` when not said).
        text_field: field (JSONL, Hugging Face) or column (Parquet) that holds the text.
        skipped: told about every file and record that is left out.

    Raises:
        CorpusError: at once when a spec names nothing; while reading when a dataset cannot be loaded or
            a table has no such column.
        MissingExtra: while reading, when the format needs a package that is not installed.
    """
    for spec in specs:
        if spec.startswith("hf:"):
            if not _hf_parts(spec)[0]:
                raise CorpusError(f"{spec!r} names no dataset; write hf:NAME or hf:NAME:SPLIT.")
        elif not os.path.exists(spec):
            raise CorpusError(
                f"There is no file or folder {spec!r}; "
                "give one that exists, or hf:NAME for a Hugging Face dataset."
            )
    return _documents(tuple(specs), text_field, skipped)


def _documents(specs: tuple[str, ...], text_field: str, skipped: Skipped) -> Iterator[Document]:
    for spec in specs:
        raw = _read_hf(spec, text_field) if spec.startswith("hf:") else _read_path(spec, text_field, skipped)
        for unit, source, value in raw:
            if not isinstance(value, str):
                skipped.add(unit, f"no text field {text_field!r}", source)
                continue
            text = value.removeprefix(_BOM)
            if text and not text.isspace():
                yield Document(spec, source, text)
            else:
                skipped.add(unit, "empty", source)


def _read_path(spec: str, text_field: str, skipped: Skipped) -> Iterator[_Raw]:
    for path, source in _files(Path(spec), skipped):
        name = path.name.lower()
        if name.endswith(".parquet"):
            yield from _read_parquet(path, source, text_field, skipped)
        elif name.endswith((*_JSONL, *_COMPRESSED_JSONL)):
            yield from _read_jsonl(path, source, text_field, skipped)
        else:
            yield from _read_text(path, source, skipped)


def _files(root: Path, skipped: Skipped) -> Iterator[tuple[Path, str]]:
    """The file itself, or all files below a folder: a folder's own files first, each level sorted by name."""
    if not root.is_dir():
        yield root, _source(Path(root.name))
        return

    def unreadable(error: OSError) -> None:
        skipped.add("folder", "unreadable", _source(Path(error.filename).relative_to(root)))

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if Path(folder, name).is_symlink():  # os.walk does not go there: links may run in circles
                skipped.add("folder", "only linked", _source(Path(folder, name).relative_to(root)))
        for name in sorted(names):
            path = Path(folder, name)
            source = _source(path.relative_to(root))
            if name.startswith("."):
                continue
            if os.path.isfile(path):  # or a link to one; reading a pipe would wait for ever
                yield path, source
            else:
                skipped.add("file", "not regular", source)


def _source(path: Path) -> str:
    # A file name need not be valid UTF-8, but the index stores sources as text.
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")


def _read_text(path: Path, source: str, skipped: Skipped) -> Iterator[_Raw]:
    try:
        with _open(path) as file:
            head = file.read(_BINARY_HEAD)
            if b"\0" in head:
                skipped.add("file", "binary", source)
                return
            text = (head + file.read()).decode()
    except UnicodeDecodeError:
        skipped.add("file", "not UTF-8", source)
    except _UNREADABLE:
        skipped.add("file", "unreadable", source)
    else:
        yield "file", source, text


def _read_jsonl(path: Path, source: str, text_field: str, skipped: Skipped) -> Iterator[_Raw]:
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                data = line.removeprefix(_BOM.encode()) if number == 1 else line
                if not data.strip():
                    continue
                where = f"{source}:{number}"
                try:
                    record = orjson.loads(data)
                except orjson.JSONDecodeError:
                    skipped.add("record", "not JSON" if _is_utf8(data) else "not UTF-8", where)
                    continue
                if not isinstance(record, dict):
                    record = {}
                own = record.get("source")
                yield "record", own if own and isinstance(own, str) else where, record.get(text_field)
    except _UNREADABLE:
        _cut_off("line", source, number + 1 if number else 0, skipped)


def _cut_off(what: str, source: str, position: int, skipped: Skipped) -> None:
    """Count a file of records that is damaged at `position`; the records before it are good, and kept."""
    if position:
        skipped.add("file", f"unreadable from some {what} on", f"{source}:{position}")
    else:
        skipped.add("file", "unreadable", source)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_parquet(path: Path, source: str, text_field: str, skipped: Skipped) -> Iterator[_Raw]:
    pyarrow = _optional("pyarrow", "Reading Parquet files")
    parquet = _optional("pyarrow.parquet", "Reading Parquet files")
    row = -1
    try:
        with parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if text_field not in columns:
                raise _no_column(source, text_field, columns)
            batches = file.iter_batches(columns=[text_field])
            for row, value in enumerate(value for batch in batches for value in batch.column(0)):
                where = f"{source}:{row}"
                try:
                    text = value.as_py()
                    # Some writers store text as bytes.
                    yield "record", where, text.decode() if isinstance(text, bytes) else text
                except UnicodeDecodeError:
                    skipped.add("record", "not UTF-8", where)
    except (OSError, pyarrow.ArrowException):
        _cut_off("row", source, row + 1, skipped)


def _read_hf(spec: str, text_field: str) -> Iterator[_Raw]:
    name, split = _hf_parts(spec)
    for row, record in enumerate(_hf_records(name, split)):
        if text_field not in record:
            raise _no_column(f"hf:{name}:{split}", text_field, list(record))
        yield "record", f"hf:{name}:{split}:{row}", record[text_field]


def _hf_parts(spec: str) -> tuple[str, str]:
    name, _, split = spec.removeprefix("hf:").partition(":")
    return name, split or "train"


def _hf_records(name: str, split: str) -> Iterator[dict[str, Any]]:
    datasets = _optional("datasets", "Reading hf: corpora")
    try:
        yield from datasets.load_dataset(name, split=split, streaming=True)
    except Exception as error:  # it lets through whatever the hub, the network and its readers raise
        reason = textwrap.shorten(str(error), 200, placeholder=" ...").rstrip(".") or type(error).__name__
        raise CorpusError(
            f"The Hugging Face dataset {name!r} (split {split!r}) cannot be loaded ({reason}); "
            "check its name, or pass a local file or folder when offline."
        ) from error


def _no_column(source: str, text_field: str, columns: Sequence[str]) -> CorpusError:
    has = ", ".join(columns) or "none"
    return CorpusError(f"{source} has no column {text_field!r}; pass --text-field with one of: {has}.")


def _optional(module: str, what: str) -> Any:
    """Import a package of the [build] extra, only when a corpus needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(what, "build") from error


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """Open for reading bytes, decompressed as the name says."""
    name = path.name.lower()
    if name.endswith(".gz"):
        return gzip.open(path)
    if name.endswith(".zst"):
        zstandard = _optional("zstandard", "Reading .zst files")
        return io.BufferedReader(_ZstdReader(path.open("rb"), zstandard), 1 << 17)
    return path.open("rb")


class _ZstdReader(io.RawIOBase):
    """A .zst file decompressed, frame after frame.

    The package's own stream reader ends a cut-off file as if it were whole; this one raises EOFError.
    """

    def __init__(self, file: io.BufferedReader, zstandard: Any) -> None:
        self._file = file
        self._error: type[Exception] = zstandard.ZstdError
        # Corpora are often packed with a long window, which is refused unless it is allowed.
        self._frames = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        self._frame = self._frames.decompressobj()
        self._inside = True  # an empty file is cut off too
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._file.read(1 << 16)
            if not self._packed:
                if self._inside:
                    raise EOFError
                return 0
            if self._frame.eof:
                self._frame = self._frames.decompressobj()
            try:
                self._ready = memoryview(self._frame.decompress(self._packed))
            except self._error as error:
                raise OSError(str(error)) from error
            self._packed = self._frame.unused_data
            self._inside = not self._frame.eof
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()
