"""How is a token written so that a person can see every character of it?

Tokens are full of things that vanish on paper: a leading space, a newline, a zero-width joiner, half of a
character. Whatever would be invisible, or would move its neighbours about, gets a visible stand-in;
ordinary text of any script stays as it is. Linear in the length of the text.

Here too, as it is the other thing to know of a token's text: `fold`, the form in which texts are compared
loosely.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

EMPTY = "∅"
"""The empty text."""

ANY = "*"
"""An ignored position."""

_RUN = 4
"""Longest run of one whitespace character that is written out; longer ones get a count."""

_WHITESPACE = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}
_RUNS = re.compile(r"(?s)([ \n\t\r])\1*|.")

# Format characters that do have a shape: the number signs of Arabic, Syriac and Kaithi.
_SHAPED = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
# Letters and symbols by category, yet blank: grapheme joiner, Hangul fillers, empty Braille cell.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def fold(text: str) -> str:
    """The form in which token texts are compared loosely: stripped, lower case."""
    return text.strip().lower()


def visible(text: str) -> str:
    """Write a token so that nothing in it is invisible.

    Spaces inside the token stay spaces; those at its ends, and newlines and tabs anywhere, are marked.
    """
    if not text:
        return EMPTY
    core = text.strip(" \n\t\r")
    first = text.index(core) if core else len(text)
    last = first + len(core)
    parts: list[str] = []
    for run in _RUNS.finditer(text):
        char, count = run[0][0], len(run[0])
        if char not in _WHITESPACE:
            parts.append(_one(char, starts=run.start() == 0))
        elif count > _RUN:
            parts.append(f"{_WHITESPACE[char]}×{count}")
            if text[run.end() : run.end() + 1].isdigit():
                parts.append("·")  # twelve spaces and a 3 must not read as 123 spaces
        elif char == " " and first < run.start() < last:
            parts.append(run[0])
        else:
            parts.append(_WHITESPACE[char] * count)
    return "".join(parts)


def _one(char: str, *, starts: bool) -> str:
    """Write one character that is not common whitespace; `starts`: nothing stands before it."""
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    category = unicodedata.category(char)
    if category == "Cc":
        return f"\\x{code:02X}"
    if char in _SHAPED:
        return char
    # Cf: zero-width and bidi controls; Cs: lone surrogates; Co: no glyph known; Z: other spaces.
    if category in ("Cf", "Cs", "Co") or category[0] == "Z" or char in _BLANK or _is_noncharacter(code):
        return f"\\u{{{code:04X}}}"
    if starts and 0xFE00 <= code <= 0xFE0F:  # a variation selector with nothing to vary
        return f"\\u{{{code:04X}}}"
    if starts and category[0] == "M":  # an accent needs something to sit on
        return f"◌{char}"
    return char


def _is_noncharacter(code: int) -> bool:
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def columns(text: str) -> int:
    """Columns that a text takes in a monospace font: 2 for wide East Asian characters, 0 for accents."""
    return sum(map(_columns_of, text))


def _columns_of(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def shorten(text: str, width: int) -> str:
    """Cut a text to at most `width` columns, with … in the middle."""
    if columns(text) <= width:
        return text
    if width < 1:
        return ""
    tail_room = (width - 1) // 2
    head = _fitting(text, width - 1 - tail_room)
    tail = _fitting(text[::-1], tail_room)[::-1]
    while tail and unicodedata.category(tail[0])[0] == "M":  # it would sit on the …
        tail = tail[1:]
    return f"{head}…{tail}"


def _fitting(text: str, room: int) -> str:
    """The longest beginning of a text that takes at most `room` columns."""
    for at, char in enumerate(text):
        room -= _columns_of(char)
        if room < 0:
            return text[:at]
    return text


def position(label: str | None) -> str:
    """Write one position of a path; a token that is itself an asterisk is escaped."""
    if label is None:
        return ANY
    return f"\\{ANY}" if label == ANY else visible(label)


def path_text(labels: Sequence[str | None]) -> str:
    """Write a path in reading order for people, as in `from * [␣import]`.

    Args:
        labels: token texts in path order, activating token first; None for an ignored position.
    """
    if not labels:
        return ""
    *before, activating = [position(label) for label in reversed(labels)]
    return " ".join([*before, f"[{activating}]"])
