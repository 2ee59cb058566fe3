"""Which tokens of the vocabulary does a text mean?

Exactly the token with that text, and every token whose folded text (stripped, lower case) is the folded text
of the query. A text that is neither is refused, with the closest tokens as suggestions. One scan of the
vocabulary.
"""

from __future__ import annotations

from n2g_index.errors import TokenNotFound
from n2g_index.graph.labels import fold
from n2g_index.store.reader import Store

_SUGGESTIONS = 5

_CLOSEST = """
    select text from (select distinct text, norm from tokens where norm <> '')
    order by levenshtein(norm, $1) - 0.5 * starts_with(norm, $1)::int, levenshtein(text, $2), text
    limit $3
"""


def check_token(store: Store, text: str) -> None:
    """Make sure that some token of the vocabulary has this text, exactly or folded.

    Raises:
        TokenNotFound: with the closest tokens.
    """
    found = store.query(
        "select count(*) from tokens where text = $1 or (norm = $2 and $2 <> '')", (text, fold(text))
    )
    if found.rows[0][0] == 0:
        closest = store.query(_CLOSEST, (fold(text), text, _SUGGESTIONS))
        raise TokenNotFound(text, [row[0] for row in closest.rows])
