"""Does reading a corpus give every usable text, in order, and account for the rest?"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from n2g_index.build.corpus import Document, Skipped, read_documents
from n2g_index.errors import CorpusError, MissingExtra

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
zstandard = pytest.importorskip("zstandard")
pytest.importorskip("datasets")

LINES = b'{"text": "one"}\n\n{"text": "two", "source": "book"}\n'


def read(*specs: Path | str, text_field: str = "text") -> tuple[list[tuple[str, str]], list[str]]:
    """(source, text) of all documents, and the warnings."""
    skipped = Skipped()
    documents = list(read_documents([str(s) for s in specs], text_field=text_field, skipped=skipped))
    return [(d.source, d.text) for d in documents], skipped.warnings()


def numbered(n: int) -> bytes:
    """`n` records that hardly compress, so that a cut in the middle of the file leaves some whole."""
    return b"".join(b'{"text": "%s"}\n' % os.urandom(40).hex().encode() for _ in range(n))


def table(path: Path, **columns: object) -> Path:
    parquet.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_a_folder_is_read_in_sorted_order_without_hidden_or_binary_entries(tmp_path: Path) -> None:
    for name, data in {
        "b.txt": b"second\r\n",
        "a.py": b"\xef\xbb\xbffirst",
        "B.json": b'{"kept": "as text"}',
        "latin.txt": "caf\xe9".encode("latin-1"),
        "latin2.txt": b"\xff",
        "picture.png": b"\x89PNG\0\0",
        "blank.txt": b" \n",
        ".hidden": b"no",
        ".git/config": b"no",
        "sub/deep/c.md": b"last",
        "sub/z.txt": b"third",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path)
    assert read(tmp_path) == (
        [
            ("B.json", '{"kept": "as text"}'),
            ("a.py", "first"),
            ("b.txt", "second\r\n"),
            ("sub/z.txt", "third"),
            ("sub/deep/c.md", "last"),
        ],
        [
            "skipped 1 folder that is only linked (first: circle)",
            "skipped 1 file that is empty (first: blank.txt)",
            "skipped 1 file that is not regular (first: broken)",
            "skipped 2 files that are not UTF-8 (first: latin.txt)",
            "skipped 1 file that is binary (first: picture.png)",
        ],
    )


def test_a_document_keeps_the_spec_as_given_and_specs_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "z.txt").write_text("z")
    (tmp_path / "a.txt").write_text("a")
    specs = [f"{tmp_path}/z.txt", f"{tmp_path}/./"]
    assert list(read_documents(specs, skipped=Skipped())) == [
        Document(specs[0], "z.txt", "z"),
        Document(specs[1], "a.txt", "a"),
        Document(specs[1], "z.txt", "z"),
    ]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.jsonl", LINES),
        ("x.NDJSON", LINES),
        ("x.jsonl", b"\xef\xbb\xbf" + LINES),
        ("x.jsonl.gz", gzip.compress(LINES)),
        ("x.json.gz", gzip.compress(LINES[:5]) + gzip.compress(LINES[5:])),
        ("x.jsonl.zst", zstandard.compress(LINES)),
        ("x.json.zst", zstandard.compress(LINES[:5]) + zstandard.compress(LINES[5:])),
    ],
)
def test_jsonl_gives_one_document_per_line(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path / name) == ([(f"{name}:1", "one"), ("book", "two")], [])


def test_json_lines_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b'{"text": "kept", "source": 3}\n'
        b"{oops\n"
        b'{"text": "caf\xe9"}\n'
        b'{"body": "no text"}\n'
        b'["a list"]\n'
        b'{"text": 7}\n'
        b'{"text": ""}\n'
        b'{"text": "cut'
    )
    assert read(path) == (
        [("x.jsonl:1", "kept")],
        [
            "skipped 2 records that are not JSON (first: x.jsonl:2)",
            "skipped 1 record that is not UTF-8 (first: x.jsonl:3)",
            "skipped 3 records that have no text field 'text' (first: x.jsonl:4)",
            "skipped 1 record that is empty (first: x.jsonl:7)",
        ],
    )
    assert read(path, text_field="body")[0] == [("x.jsonl:4", "no text")]


@pytest.mark.parametrize("packed", ["gz", "zst"])
def test_a_cut_off_compressed_file_keeps_the_records_before_the_cut(tmp_path: Path, packed: str) -> None:
    lines = numbered(20_000)
    whole = gzip.compress(lines, 1) if packed == "gz" else zstandard.compress(lines)
    path = tmp_path / f"x.jsonl.{packed}"
    path.write_bytes(whole)
    everything, warnings = read(path)
    assert (len(everything), warnings) == (20_000, [])

    path.write_bytes(whole[: len(whole) // 2])
    documents, warnings = read(path)
    n = len(documents)
    assert 5_000 < n < 15_000
    assert documents == everything[:n]
    assert warnings == [
        f"skipped 1 file that is unreadable from some line on (first: x.jsonl.{packed}:{n + 1})"
    ]


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.txt.gz", "x.jsonl.zst", "x.txt.zst", "x.parquet"])
def test_a_corrupt_file_is_unreadable(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is not compressed, and no table")
    assert read(tmp_path / name) == ([], [f"skipped 1 file that is unreadable (first: {name})"])


def test_compressed_text_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ntwo"))
    (tmp_path / "b.txt.zst").write_bytes(zstandard.compress(b"three " * 50_000))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(numbered(5000))[:-3000])
    assert read(tmp_path) == (
        [("a.txt.gz", "one\ntwo"), ("b.txt.zst", "three " * 50_000)],
        ["skipped 1 file that is unreadable (first: c.txt.gz)"],
    )


def test_parquet_gives_one_document_per_row(tmp_path: Path) -> None:
    path = table(
        tmp_path / "x.parquet",
        text=["zero", None, "two", "", "four"],
        raw=[b"zero", b"\xff", b"two", b"three", b"four"],
    )
    assert read(path) == (
        [("x.parquet:0", "zero"), ("x.parquet:2", "two"), ("x.parquet:4", "four")],
        [
            "skipped 1 record that has no text field 'text' (first: x.parquet:1)",
            "skipped 1 record that is empty (first: x.parquet:3)",
        ],
    )
    assert read(path, text_field="raw") == (
        [
            ("x.parquet:0", "zero"),
            ("x.parquet:2", "two"),
            ("x.parquet:3", "three"),
            ("x.parquet:4", "four"),
        ],
        ["skipped 1 record that is not UTF-8 (first: x.parquet:1)"],
    )


def test_a_missing_column_names_those_that_exist(tmp_path: Path) -> None:
    path = table(tmp_path / "x.parquet", body=["a"], title=["b"])
    with pytest.raises(CorpusError) as error:
        read(path)
    assert str(error.value) == "x.parquet has no column 'text'; pass --text-field with one of: body, title."


def test_a_spec_that_names_nothing_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(CorpusError) as error:
        read_documents([str(tmp_path), "nowhere.txt"], skipped=Skipped())
    assert str(error.value) == (
        "There is no file or folder 'nowhere.txt'; "
        "give one that exists, or hf:NAME for a Hugging Face dataset."
    )
    with pytest.raises(CorpusError) as error:
        read_documents(["hf:"], skipped=Skipped())
    assert str(error.value) == "'hf:' names no dataset; write hf:NAME or hf:NAME:SPLIT."


def test_a_dataset_gives_one_document_per_row_of_its_split(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "one"}\n{"text": null}\n{"text": "three"}\n')
    (tmp_path / "test.jsonl").write_text('{"text": "held out"}\n')
    assert read(f"hf:{tmp_path}", f"hf:{tmp_path}:test") == (
        [
            (f"hf:{tmp_path}:train:0", "one"),
            (f"hf:{tmp_path}:train:2", "three"),
            (f"hf:{tmp_path}:test:0", "held out"),
        ],
        [f"skipped 1 record that has no text field 'text' (first: hf:{tmp_path}:train:1)"],
    )
    with pytest.raises(CorpusError) as error:
        read(f"hf:{tmp_path}", text_field="body")
    assert (
        str(error.value) == f"hf:{tmp_path}:train has no column 'body'; pass --text-field with one of: text."
    )


def test_a_dataset_that_cannot_be_loaded_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto the hub.")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(CorpusError) as error:
        read("hf:someone/texts:validation")
    assert str(error.value) == (
        "The Hugging Face dataset 'someone/texts' (split 'validation') cannot be loaded "
        "(no route to the hub); check its name, or pass a local file or folder when offline."
    )


def test_an_offline_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    # Both libraries read these when they are imported: only a new process is sure to see them.
    program = (
        "from n2g_index.build.corpus import Skipped, read_documents\n"
        "from n2g_index.errors import CorpusError\n"
        "try: list(read_documents(['hf:someone/texts'], skipped=Skipped()))\n"
        "except CorpusError as error: print(error)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(
        "The Hugging Face dataset 'someone/texts' (split 'train') cannot be loaded ("
    )
    assert run.stdout.endswith("); check its name, or pass a local file or folder when offline.\n")
    assert run.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "name", "what"),
    [
        ("datasets", None, "Reading hf: corpora"),
        ("pyarrow", "x.parquet", "Reading Parquet files"),
        ("zstandard", "x.jsonl.zst", "Reading .zst files"),
    ],
)
def test_a_package_that_is_not_installed_is_named_by_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str | None, what: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if name:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(MissingExtra) as error:
        read(tmp_path / name if name else "hf:someone/texts")
    assert str(error.value) == f"{what} needs the [build] extra: pip install 'n2g-index[build]'."


def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    for name in ("a.txt", "folder/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("secret")
    locked = [tmp_path / "a.txt", tmp_path / "folder"]
    for path in locked:
        path.chmod(0)
    try:
        if os.access(locked[0], os.R_OK):
            pytest.skip("this user may read everything")
        assert read(tmp_path) == (
            [],
            [
                "skipped 1 file that is unreadable (first: a.txt)",
                "skipped 1 folder that is unreadable (first: folder)",
            ],
        )
    finally:
        for path in locked:
            path.chmod(0o700)


def test_a_file_name_that_is_not_utf8_becomes_text(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("kept")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert read(tmp_path) == ([("\ufffd.txt", "kept")], [])
