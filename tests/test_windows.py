"""Are windows exactly the consecutive runs of the token stream, each once, with their origin?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from n2g_index.build.corpus import Document
from n2g_index.build.windows import Windows, cut_windows
from n2g_index.errors import CorpusError

SEPARATOR = 0


def encode(texts: Sequence[str]) -> list[list[int]]:
    """One token per letter, `a` is 1; spaces give none."""
    return [[ord(letter) - 96 for letter in text if letter != " "] for text in texts]


def documents(*texts: str) -> list[Document]:
    return [Document("corpus", str(number), text) for number, text in enumerate(texts)]


def contents(windows: Windows) -> dict[str, object]:
    return {
        "tokens": windows.tokens.tolist(),
        "corpus": windows.corpus,
        "source": windows.source,
        "start": windows.start.tolist(),
        "n_documents": windows.n_documents,
        "n_tokens": windows.n_tokens,
        "n_duplicates": windows.n_duplicates,
    }


def test_a_stream_with_separators_is_cut_whole() -> None:
    windows = cut_windows(documents("abcde", "fg", " ", "h"), encode, length=3, separator=SEPARATOR)
    # a b c | d e 0 | f g 0 | h
    assert contents(windows) == {
        "tokens": [[1, 2, 3], [4, 5, 0], [6, 7, 0]],
        "corpus": ("corpus",) * 3,
        "source": ("0", "0", "1"),
        "start": [0, 3, 0],
        "n_documents": 3,
        "n_tokens": 10,
        "n_duplicates": 0,
    }
    assert windows.tokens.dtype == np.dtype(np.int32)
    assert windows.start.dtype == np.dtype(np.int64)
    assert (len(windows), windows.length) == (3, 3)


def test_a_separator_belongs_to_the_document_after_it() -> None:
    windows = cut_windows(documents("abc", "defgh"), encode, length=3, separator=SEPARATOR)
    # a b c | 0 d e | f g h
    assert (windows.source, windows.start.tolist()) == (("0", "1", "1"), [0, 0, 2])


def test_equal_windows_are_kept_once_at_their_first_place() -> None:
    windows = cut_windows(documents("abab", "abcd", "cdcd"), encode, length=2, separator=None)
    assert contents(windows) == {
        "tokens": [[1, 2], [3, 4]],
        "corpus": ("corpus",) * 2,
        "source": ("0", "1"),
        "start": [0, 2],
        "n_documents": 3,
        "n_tokens": 12,
        "n_duplicates": 4,
    }


def naive(texts: list[str], length: int, separator: int | None, max_tokens: int | None) -> dict[str, object]:
    """The same in plain lists: (token, source, start) of the whole stream, cut up afterwards."""
    stream: list[tuple[int, str, int]] = []
    for number, ids in enumerate(encode(texts)):
        if ids and stream and separator is not None:
            stream.append((separator, str(number), -1))
        stream += [(token, str(number), start) for start, token in enumerate(ids)]
    stream = stream[:max_tokens]
    cut = [stream[at : at + length] for at in range(0, len(stream) - length + 1, length)]
    first: dict[tuple[int, ...], tuple[str, int]] = {}
    for window in cut:
        first.setdefault(tuple(token for token, _, _ in window), (window[0][1], max(0, window[0][2])))
    return {
        "tokens": [list(tokens) for tokens in first],
        "corpus": ("corpus",) * len(first),
        "source": tuple(source for source, _ in first.values()),
        "start": [start for _, start in first.values()],
        "n_documents": len({source for _, source, start in stream if start >= 0}),
        "n_tokens": len(stream),
        "n_duplicates": len(cut) - len(first),
    }


@given(
    texts=st.lists(st.text("ab ", max_size=12), max_size=200),
    length=st.integers(1, 9),
    separator=st.sampled_from([None, SEPARATOR]),
    max_tokens=st.none() | st.integers(1, 300),
)
@example(["abacad", "", "bcbd", "e"] * 50, 7, SEPARATOR, None)  # several batches of 64
def test_cutting_equals_a_naive_cut(
    texts: list[str], length: int, separator: int | None, max_tokens: int | None
) -> None:
    expected = naive(texts, length, separator, max_tokens)
    try:
        windows = cut_windows(
            documents(*texts), encode, length=length, separator=separator, max_tokens=max_tokens
        )
    except CorpusError:
        assert expected["tokens"] == []
    else:
        assert contents(windows) == expected


def test_reading_stops_at_max_tokens_and_tells_its_progress() -> None:
    read = 0
    batches: list[int] = []
    progress: list[int] = []

    def endless() -> Iterator[Document]:
        nonlocal read
        while True:
            read += 1
            yield Document("corpus", str(read), "ab")

    def counted(texts: Sequence[str]) -> list[list[int]]:
        batches.append(len(texts))
        return encode(texts)

    windows = cut_windows(
        endless(), counted, length=4, separator=None, max_tokens=301, on_progress=progress.append
    )
    assert (windows.n_tokens, windows.n_documents, read) == (301, 151, 192)
    assert batches == [64, 64, 64]
    assert progress == [128, 256, 301]


@pytest.mark.parametrize(
    ("texts", "max_tokens", "message"),
    [
        ([], None, "The corpus holds no text."),
        ([" ", ""], None, "The corpus holds no text."),
        (
            ["abc", "def"],
            None,
            "The corpus has only 7 tokens, fewer than one window of 8; add text or pass --window 3.",
        ),
        (["abc"], None, "The corpus has only 3 tokens, fewer than one window of 8; add text."),
        (
            ["abcdefghi"],
            5,
            "The corpus has only 5 tokens, fewer than one window of 8; "
            "raise --max-tokens or pass --window 2.",
        ),
    ],
)
def test_a_corpus_without_a_window_is_refused(texts: list[str], max_tokens: int | None, message: str) -> None:
    with pytest.raises(CorpusError) as error:
        cut_windows(documents(*texts), encode, length=8, separator=SEPARATOR, max_tokens=max_tokens)
    assert str(error.value) == message


def test_a_fingerprint_depends_on_tokens_and_shape_only() -> None:
    def fingerprint(length: int, *texts: str) -> str:
        return cut_windows(documents(*texts), encode, length=length, separator=None).fingerprint()

    same = fingerprint(2, "abcdefgh")
    # One fixed value, so that a change of the definition, which would orphan built indexes, is noticed.
    assert same == "dd45c22dde1c3a4ab80abcbfde6e91b1f85b2a166747139738fdc5ea6982f315"
    assert same == fingerprint(2, "abc", "defgh")
    assert len({same, fingerprint(4, "abcdefgh"), fingerprint(2, "abcdefgi")}) == 3
