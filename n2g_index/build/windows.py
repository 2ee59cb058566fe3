"""How is text cut into what the model reads at once?

All documents are laid end to end in one stream of tokens, which is cut into windows of equal length. A
window may so begin in one document and end in the next; only the rest at the very end is lost. Time is
linear in the tokens, memory 4 bytes a token and some 100 a window.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.corpus import Document
from n2g_index.errors import CorpusError

_BATCH = 64
"""Documents that are tokenised together."""


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """A corpus as the model reads it: different windows of equal length, in corpus order, without BOS."""

    tokens: NDArray[np.int32]
    """Shape [n_windows, length]."""

    corpus: tuple[str, ...]
    """Per window, the corpus spec of its first token."""

    source: tuple[str, ...]
    """Per window, the document of its first token."""

    start: NDArray[np.int64]
    """Per window, how many of that document's own tokens come before it. A separator belongs to the document
    after it and is not one of its own tokens: a window starting at either it or the token after it has 0."""

    joins: tuple[tuple[tuple[int, str], ...], ...]
    """Per window, position and document of every further document that begins in it."""

    n_documents: int
    """Documents of which at least one token was read."""

    n_tokens: int
    """Length of the stream, separators included."""

    n_duplicates: int
    """Windows left out because an earlier one has the same tokens."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Tokens per window."""
        return int(self.tokens.shape[1])

    def fingerprint(self) -> str:
        """SHA-256 of the tokens and their shape, the same on every machine."""
        digest = hashlib.sha256(np.array(self.tokens.shape, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.tokens, dtype="<i4").data)
        return digest.hexdigest()


class _Cutter:
    """Cuts a growing stream; holds whole windows and a rest that is shorter than one."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.n_tokens = 0
        self.n_duplicates = 0
        self.corpus: list[str] = []
        self.source: list[str] = []
        self.start: list[int] = []
        self.joins: list[tuple[tuple[int, str], ...]] = []
        self.chunks: list[NDArray[np.int32]] = []
        self._rest: list[NDArray[np.int32]] = []
        self._n_rest = 0
        self._origins: list[tuple[Document, int]] = []  # of the windows that are begun but not cut
        self._begun: dict[int, list[tuple[int, str]]] = defaultdict(list)  # window, counted in the stream
        self._n_cut = 0
        self._seen: set[bytes] = set()

    def add(self, document: Document, ids: NDArray[np.int32], n_separators: int) -> None:
        """Append a document's tokens, of which the first `n_separators` are not its own."""
        for first in range(-self.n_tokens % self.length, len(ids), self.length):
            self._origins.append((document, max(0, first - n_separators)))
        window, position = divmod(self.n_tokens, self.length)
        if position and len(ids):
            self._begun[window].append((position, document.source))
        self._rest.append(ids)
        self._n_rest += len(ids)
        self.n_tokens += len(ids)

    def cut(self) -> None:
        """Move all whole windows from the rest to the result, once each."""
        n_windows = self._n_rest // self.length
        if not n_windows:
            return
        stream = np.concatenate(self._rest)
        rows = stream[: n_windows * self.length].reshape(n_windows, self.length)
        keep = [self._is_new(row) for row in rows]
        for i, is_new in enumerate(keep):
            document, start = self._origins[i]
            joins = tuple(self._begun.pop(self._n_cut + i, ()))
            if is_new:
                self.corpus.append(document.corpus)
                self.source.append(document.source)
                self.start.append(start)
                self.joins.append(joins)
        self._n_cut += n_windows
        self.n_duplicates += keep.count(False)
        self.chunks.append(rows[keep])
        del self._origins[:n_windows]
        self._rest = [stream[n_windows * self.length :].copy()]
        self._n_rest = len(self._rest[0])

    def _is_new(self, row: NDArray[np.int32]) -> bool:
        # A digest of 16 bytes instead of the tokens themselves keeps the memory of large corpora flat.
        digest = hashlib.blake2b(row.data, digest_size=16).digest()
        if digest in self._seen:
            return False
        self._seen.add(digest)
        return True


def cut_windows(
    documents: Iterable[Document],
    encode: Callable[[Sequence[str]], list[list[int]]],
    *,
    length: int,
    separator: int | None,
    max_tokens: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Windows:
    """Tokenise documents and cut the stream into windows.

    A window whose tokens equal an earlier one's is dropped: it could put one text among a neuron's train
    examples and its test examples.

    Args:
        documents: read only as far as needed.
        encode: texts to token ids, without special tokens; called with up to 64 texts.
        length: tokens per window.
        separator: token put between two documents, None for none.
        max_tokens: cut the stream after exactly this many tokens.
        on_progress: called after each batch with the number of tokens so far.

    Raises:
        CorpusError: when there is no token, or not enough for one window.
    """
    cutter = _Cutter(length)
    n_documents = 0
    for batch in _batches(documents):
        for document, ids in zip(batch, encode([document.text for document in batch]), strict=True):
            if not ids:
                continue
            lead = [separator] if separator is not None and cutter.n_tokens else []
            room = None if max_tokens is None else max_tokens - cutter.n_tokens
            stream = np.array((lead + ids)[:room], dtype=np.int32)
            cutter.add(document, stream, len(lead))
            n_documents += len(stream) > len(lead)
        cutter.cut()
        if on_progress is not None:
            on_progress(cutter.n_tokens)
        if max_tokens is not None and cutter.n_tokens >= max_tokens:
            break
    if not cutter.chunks:
        raise CorpusError(_too_short(cutter.n_tokens, length, max_tokens))
    return Windows(
        tokens=np.concatenate(cutter.chunks),
        corpus=tuple(cutter.corpus),
        source=tuple(cutter.source),
        start=np.array(cutter.start, dtype=np.int64),
        joins=tuple(cutter.joins),
        n_documents=n_documents,
        n_tokens=cutter.n_tokens,
        n_duplicates=cutter.n_duplicates,
    )


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    iterator = iter(documents)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _too_short(n_tokens: int, length: int, max_tokens: int | None) -> str:
    if not n_tokens:
        return "The corpus holds no text."
    hint = "add text" if n_tokens != max_tokens else "raise --max-tokens"
    # Two windows at least: a neuron needs one example to train on and one to test on.
    smaller = n_tokens // 2
    if smaller >= 2:
        hint += f" or pass --window {smaller}"
    return f"The corpus has only {n_tokens} tokens, fewer than one window of {length}; {hint}."
