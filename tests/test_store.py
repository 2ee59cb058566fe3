"""Does an index appear whole or not at all, and is every damaged one refused with one sentence?"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

import n2g_index
from n2g_index.errors import (
    BuildError,
    DiskError,
    IndexIncomplete,
    IndexNotFound,
    IndexVersionError,
    N2GError,
)
from n2g_index.store.manifest import DATABASE, FULLTEXT, MANIFEST, PATHS, describe_files, read_manifest
from n2g_index.store.staging import Staging, disk_errors
from tests.making import reading, write_index

VOCABULARY = [" import", "from", " as"]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "toy.n2g"
    return write_index(
        folder,
        {
            (0, 1): [reading(VOCABULARY, "from", None, " import", activation=0.75)],
            (1, 2): [reading(VOCABULARY, " as")],
        },
        VOCABULARY,
        f1={(0, 1): 0.5},
    )


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(built, tmp_path / "toy.n2g"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def edit_manifest(index: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = orjson.loads((index / MANIFEST).read_bytes())
    change(content)
    (index / MANIFEST).write_bytes(orjson.dumps(content))


def refusal(index: Path) -> tuple[type[N2GError], str]:
    with pytest.raises(N2GError) as caught:
        n2g_index.open(index)
    assert caught.value.exit_code == 1
    return type(caught.value), str(caught.value)


# the manifest


def test_a_whole_index_is_described_file_by_file(built: Path) -> None:
    manifest = read_manifest(built)
    assert (manifest.format_version, manifest.generation) == (2, 1)
    assert manifest.files == describe_files(built)
    parts = {Path(name).parts[0] for name in manifest.files}
    assert parts == {DATABASE, FULLTEXT, PATHS}
    assert not any(name.endswith((".lock", ".wal")) for name in manifest.files)


def test_a_missing_folder(tmp_path: Path) -> None:
    folder = tmp_path / "no.n2g"
    assert refusal(folder) == (
        IndexNotFound,
        f"There is no index at '{folder}': build one, or name another with --index.",
    )


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "no.n2g").write_text("text")
    assert refusal(tmp_path / "no.n2g")[0] is IndexNotFound


def test_no_manifest(index: Path) -> None:
    (index / MANIFEST).unlink()
    assert refusal(index) == (
        IndexIncomplete,
        f"'{index}' is not a finished index (it has no manifest.json): run the build again.",
    )


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'"a"', b"{}", b"\xff", b'{"format_version": 2}']
)
def test_a_damaged_manifest(index: Path, content: bytes) -> None:
    (index / MANIFEST).write_bytes(content)
    assert refusal(index) == (
        IndexIncomplete,
        f"The manifest of '{index}' is damaged: run the build again.",
    )


@pytest.mark.parametrize("files", [None, [], {DATABASE: {}}, {DATABASE: None}])
def test_a_manifest_with_a_damaged_list_of_files(index: Path, files: object) -> None:
    edit_manifest(index, lambda content: content.update(files=files))
    assert refusal(index) == (
        IndexIncomplete,
        f"The manifest of '{index}' is damaged: run the build again.",
    )


def test_a_manifest_with_an_unknown_field_is_damaged(index: Path) -> None:
    edit_manifest(index, lambda content: content.update(surprise=1))
    assert refusal(index)[0] is IndexIncomplete


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_another_format_version(index: Path, version: object) -> None:
    (index / MANIFEST).write_bytes(orjson.dumps({"format_version": version, "of": "another shape"}))
    assert refusal(index) == (
        IndexVersionError,
        f"'{index}' has format version {version}, this n2g-index reads 2: "
        "build it again, or install the n2g-index that wrote it.",
    )


def test_every_part_that_is_missing_is_named(index: Path) -> None:
    for name in read_manifest(index).files:
        content = (index / name).read_bytes()
        (index / name).unlink()
        assert refusal(index) == (
            IndexIncomplete,
            f"The index '{index}' is incomplete: {name} is missing; build it again.",
        )
        (index / name).write_bytes(content)


def test_every_part_that_is_cut_off_is_named(index: Path) -> None:
    for name in read_manifest(index).files:
        content = (index / name).read_bytes()
        (index / name).write_bytes(content[:-1])
        assert refusal(index) == (
            IndexIncomplete,
            f"The index '{index}' is incomplete: {name} has {len(content) - 1} bytes "
            f"instead of {len(content)}; build it again.",
        )
        (index / name).write_bytes(content)


# damage that keeps the size


def overwrite(path: Path, share: float) -> None:
    """Put zeros in the place of the last `share` of a file."""
    content = path.read_bytes()
    kept = round(len(content) * (1 - share))
    path.write_bytes(content[:kept] + bytes(len(content) - kept))


def test_tables_without_a_header(index: Path) -> None:
    overwrite(index / DATABASE, 1)
    assert refusal(index) == (
        IndexIncomplete,
        f"The tables of '{index}' are damaged: build the index again.",
    )


def test_tables_with_damaged_blocks(index: Path) -> None:
    overwrite(index / DATABASE, 0.9)
    with pytest.raises(IndexIncomplete), n2g_index.open(index) as opened:
        opened.info()


@pytest.mark.parametrize("suffix", ["meta.json", ".managed.json", ".term", ".idx", ".pos", ".fast", ".store"])
def test_a_damaged_full_text_index(index: Path, suffix: str) -> None:
    (part,) = (path for path in (index / FULLTEXT).iterdir() if path.name.endswith(suffix))
    overwrite(part, 1)
    assert refusal(index) == (
        IndexIncomplete,
        f"The full-text index in '{index / FULLTEXT}' is damaged: build it again.",
    )


# staging


def fail_halfway(target: Path, *, replace: bool) -> None:
    with Staging(target, replace=replace) as staging:
        (staging.folder / "part").write_text("half")
        left = {f"{target.name}.building", f"{target.name}.lock"}
        assert left <= set(names(target.parent))
        raise ZeroDivisionError


def test_nothing_is_left_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_halfway(tmp_path / "a.n2g", replace=False)
    assert names(tmp_path) == []


def test_leaving_without_publishing_publishes_nothing(tmp_path: Path) -> None:
    with Staging(tmp_path / "a.n2g", replace=False):
        pass
    assert names(tmp_path) == []


def test_publishing_renames_the_folder(tmp_path: Path) -> None:
    with Staging(tmp_path / "new" / "a.n2g", replace=False) as staging:
        (staging.folder / "part").write_text("whole")
        inode = staging.folder.stat().st_ino
        assert not staging.target.exists()
        staging.publish()
        assert staging.target.stat().st_ino == inode
    assert names(tmp_path / "new") == ["a.n2g"]
    assert (tmp_path / "new" / "a.n2g" / "part").read_text() == "whole"


def test_a_target_that_exists_is_not_replaced_unasked(index: Path) -> None:
    before = describe_files(index)
    with pytest.raises(BuildError) as caught:
        Staging(index, replace=False)
    assert str(caught.value) == f"'{index}' exists already: name another with -o, or pass --replace."
    assert (names(index.parent), describe_files(index)) == (["toy.n2g"], before)


def test_an_exception_leaves_the_earlier_index(index: Path) -> None:
    before = describe_files(index)
    with pytest.raises(ZeroDivisionError):
        fail_halfway(index, replace=True)
    assert (names(index.parent), describe_files(index)) == (["toy.n2g"], before)


def replace(index: Path) -> None:
    """Put another index in the place of this one: ` import` moves to L2N5."""
    write_index(index, {(2, 5): [reading(VOCABULARY, " import")]}, VOCABULARY, replace=True)


def test_a_reader_keeps_the_index_that_was_replaced(index: Path) -> None:
    with n2g_index.open(index) as old:
        before = (old.search(" import"), old.info(), old.neuron("L0N1"))
        replace(index)
        assert names(index.parent) == ["toy.n2g"]
        assert (old.search(" import"), old.info(), old.neuron("L0N1")) == before
    with n2g_index.open(index) as new:
        assert [hit.neuron for hit in new.search(" import")] == ["L2N5"]


def test_a_reader_that_has_not_searched_yet_keeps_its_index_too(index: Path) -> None:
    with n2g_index.open(index) as old:
        replace(index)
        assert [hit.neuron for hit in old.search(" import")] == ["L0N1"]


def test_a_new_reader_beside_an_old_one_reads_the_new_index(index: Path) -> None:
    with n2g_index.open(index):
        replace(index)
        with n2g_index.open(index) as new:
            assert new.sql("select name from neurons").rows == [("L2N5",)]


@pytest.fixture
def other_build(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A build of a.n2g in another process that has written half."""
    code = (
        "import sys; from pathlib import Path; from n2g_index.store.staging import Staging\n"
        "with Staging(Path(sys.argv[1]), replace=False) as staging:\n"
        "    (staging.folder / 'part').write_text('half'); print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a.n2g")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_build_is_refused_while_the_first_runs(
    tmp_path: Path, other_build: subprocess.Popen[str]
) -> None:
    with pytest.raises(BuildError) as caught:
        Staging(tmp_path / "a.n2g", replace=False)
    assert str(caught.value) == f"Another build is writing '{tmp_path / 'a.n2g'}': wait for it or stop it."
    assert names(tmp_path / "a.n2g.building") == ["part"]
    other_build.communicate("")
    with Staging(tmp_path / "a.n2g", replace=False) as staging:
        staging.publish()
    assert names(tmp_path) == ["a.n2g"]


def test_what_a_killed_build_left_is_cleared_away(tmp_path: Path, other_build: subprocess.Popen[str]) -> None:
    other_build.kill()
    other_build.wait()
    assert names(tmp_path) == ["a.n2g.building", "a.n2g.lock"]
    with Staging(tmp_path / "a.n2g", replace=False) as staging:
        assert names(staging.folder) == []
    assert names(tmp_path) == []


def test_a_folder_that_is_no_index_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(BuildError), Staging(tmp_path / "thesis", replace=True) as staging:
        staging.publish()
    assert names(tmp_path / "thesis") == ["chapter1.tex"]


def test_the_current_folder_is_no_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BuildError):
        Staging(Path(), replace=False)


@pytest.mark.parametrize("name", ["file/a.n2g", "file/folder/a.n2g", "x" * 300 + ".n2g"])
def test_a_place_where_no_folder_can_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(BuildError):
        Staging(tmp_path / name, replace=False)


# full and refusing disks


def test_errors_of_the_disk_are_one_sentence(tmp_path: Path) -> None:
    full = f"There is no space left to write in '{tmp_path}': free some and run the build again."
    sentences: dict[int, str] = {}
    for code in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EACCES, errno.EROFS):
        with pytest.raises(DiskError) as caught, disk_errors(tmp_path / "a.n2g"):
            raise OSError(code, os.strerror(code))
        sentences[code] = str(caught.value)
    refused = f"Nothing can be written to '{tmp_path}': "
    assert sentences == {
        errno.ENOSPC: full,
        errno.EFBIG: full,
        errno.EDQUOT: full,
        errno.EACCES: f"{refused}Permission denied.",
        errno.EROFS: f"{refused}Read-only file system.",
    }


@pytest.mark.parametrize("error", [OSError(errno.EISDIR, "odd"), ValueError("odd"), KeyError("odd")])
def test_other_errors_pass_unchanged(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error


_LIMITED = """
import resource, sys
from pathlib import Path
from tests.making import trace, write_index
from n2g_index.errors import N2GError
from n2g_index.store.writer import IndexWriter

stage, limit, n_paths = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
step = getattr(IndexWriter, stage)

def limited(self, *args, **kwargs):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return step(self, *args, **kwargs)

setattr(IndexWriter, stage, limited)
vocabulary = [f" token{i}" for i in range(3000)]
neurons = {
    (layer, i): [trace((i * 31 + j) % 3000, (i + j * 7) % 3000, (layer + j) % 3000) for j in range(n_paths)]
    for layer in range(3) for i in range(200)
}
try:
    write_index(Path(sys.argv[1]), neurons, vocabulary, d_mlp=200)
except N2GError as error:
    print(type(error).__name__, error, sep="|")
"""


def fill_disk(folder: Path, stage: str, limit: int, n_paths: int) -> str:
    """Build with no file larger than `limit` bytes from a step of the writer on; returns what came out."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(folder / "a.n2g"), stage, str(limit), str(n_paths)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("stage", "limit", "n_paths"),
    [
        ("__init__", 4096, 1),
        ("write_model", 20_000, 1),
        ("write_neurons", 100_000, 9),
        ("finish", 0, 1),
        ("finish", 300, 1),
        ("finish", 10_000, 60),
        ("finish", 200_000, 9),
    ],
)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, stage: str, limit: int, n_paths: int
) -> None:
    said = fill_disk(tmp_path, stage, limit, n_paths)
    assert said == (
        f"DiskError|There is no space left to write in '{tmp_path}': free some and run the build again.\n"
    )
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DiskError) as caught:
            Staging(tmp_path / "a.n2g", replace=False)
    finally:
        tmp_path.chmod(0o700)
    assert str(caught.value) == f"Nothing can be written to '{tmp_path}': Permission denied."
