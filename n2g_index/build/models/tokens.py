"""What text does each token id stand for, exactly?

A tokenizer's `decode` of a lone id drops leading spaces (SentencePiece) and replaces bytes that are no
whole character (byte-level BPE). Here both survive: a token is decoded behind an anchor token whose text
is then cut off, and stray bytes are written as `\\xNN`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_SENTENCEPIECE_BYTE = re.compile("<0x[0-9A-F]{2}>")


def _byte_alphabet() -> dict[str, int]:
    """The printable stand-ins that byte-level BPE vocabularies use for the 256 bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


def token_texts(tokenizer: Any, vocab_size: int) -> tuple[str, ...]:
    """The text of every id from 0 to `vocab_size` - 1; ids the tokenizer does not know are `<id N>`."""
    known = len(tokenizer)
    anchor = tokenizer.encode("a", add_special_tokens=False)[-1]

    def decode(ids: Sequence[int]) -> str:
        text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    prefix = decode([anchor])
    pieces = tokenizer.convert_ids_to_tokens(range(min(vocab_size, known)))
    alphabet = _byte_alphabet()

    def text(token_id: int) -> str:
        if token_id >= known or pieces[token_id] is None:
            return f"<id {token_id}>"
        whole = decode([anchor, token_id])
        own = whole[len(prefix) :] if whole.startswith(prefix) else decode([token_id])
        piece = pieces[token_id]
        if REPLACEMENT in own and _SENTENCEPIECE_BYTE.fullmatch(piece):
            return f"\\x{piece[3:5].lower()}"
        if REPLACEMENT in own and all(c in alphabet for c in piece):
            return bytes(alphabet[c] for c in piece).decode("utf-8", errors="backslashreplace")
        return own

    return tuple(text(token_id) for token_id in range(vocab_size))
