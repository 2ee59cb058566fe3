"""How does an index appear all at once, or not at all?

A build writes into `NAME.n2g.building` beside its target, under a lock that the operating system drops when
the process ends however it ends. Publishing is one rename. An earlier index is moved aside first and moved
back if the rename fails; a reader that has it open keeps reading it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import duckdb

from n2g_index.errors import BuildError, DiskError
from n2g_index.store.manifest import MANIFEST

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Turn a full or refusing disk into one clear `DiskError`."""
    where = str(target.absolute().parent)
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskError(_full_message(where)) from error
        if error.errno in _REFUSED:
            raise DiskError(f"Nothing can be written to {where!r}: {os.strerror(error.errno)}.") from error
        raise
    except (duckdb.Error, ValueError) as error:
        # DuckDB and tantivy hand the operating system's message on as text, tantivy's threads not even that.
        text = str(error).lower()
        signs = (*(os.strerror(code).lower() for code in _FULL), "could not write", "index writer was killed")
        if any(sign in text for sign in signs):
            raise DiskError(_full_message(where)) from error
        raise


def _full_message(where: str) -> str:
    return f"There is no space left to write in {where!r}: free some and run the build again."


def _check_target(target: Path, *, replace: bool) -> None:
    """Only an index may be replaced, and only when that was asked for."""
    if not os.path.lexists(target):
        return
    if not replace:
        raise BuildError(f"{str(target)!r} exists already: name another with -o, or pass --replace.")
    if target.is_symlink() or not (target / MANIFEST).is_file():
        raise BuildError(f"{str(target)!r} is not an index, so it is not replaced: name another with -o.")


class Staging:
    """A locked folder that becomes the index when the build succeeds, and is removed when it fails."""

    def __init__(self, target: Path, *, replace: bool) -> None:
        """Prepare to build `target`.

        Raises:
            BuildError: when the target exists and may not be replaced, or another build is writing it.
            DiskError: when the folder cannot be made.
        """
        if target.name in ("", ".."):
            raise BuildError(f"{str(target)!r} is no name for an index: give one such as demo.n2g with -o.")
        self.target = target
        self.folder = target.with_name(target.name + ".building")
        with disk_errors(target):
            _check_target(target, replace=replace)
            target.absolute().parent.mkdir(parents=True, exist_ok=True)
            self._lock = open(target.with_name(target.name + ".lock"), "w")  # noqa: SIM115 - held until close
        if not self._take_lock():
            self._lock.close()
            raise BuildError(f"Another build is writing {str(target)!r}: wait for it or stop it.")
        try:
            with disk_errors(target):
                shutil.rmtree(self.folder, ignore_errors=True)  # left by a build that was killed
                self.folder.mkdir()
        except BaseException:
            self._release()
            raise

    def _take_lock(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A build that just ended may have removed the file between our opening and our locking it.
            return os.path.samestat(os.fstat(self._lock.fileno()), os.stat(self._lock.name))
        except OSError:
            return False

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        Path(self._lock.name).unlink(missing_ok=True)
        self._lock.close()

    def publish(self) -> None:
        """Put the finished folder in the target's place."""
        aside = self.target.with_name(self.target.name + ".replaced")
        with disk_errors(self.target):
            shutil.rmtree(aside, ignore_errors=True)
            if self.target.exists():
                self.target.rename(aside)
            try:
                self.folder.rename(self.target)
            except OSError:
                if aside.exists():
                    aside.rename(self.target)
                raise
        shutil.rmtree(aside, ignore_errors=True)
