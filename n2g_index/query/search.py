"""Which neurons have to do with this token?

Hits are ranked in tiers: an exact token before a folded one, and within each an activating role before a
context role; inside a tier by the neuron's held-out F1, then by its max activation. Each hit shows the path
through which it was found: the one with the largest activation, most support first. Cost: one full-text query
per tier and one indexed lookup for the hits shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from n2g_index.errors import BadParameter
from n2g_index.query.results import Results
from n2g_index.query.tokens import check_token, fold
from n2g_index.store.fulltext import Match, Role, Tier
from n2g_index.store.reader import Store


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A neuron in whose graph the token stands."""

    neuron: str
    layer: int
    index: int
    role: Role
    """`activating` where the neuron fires on the token, `context` where it needs the token before it."""

    match: Match
    """`exact`, or `folded` where only case or spaces around the token differ."""

    f1: float | None
    """Held-out F1 of the neuron's graph, firing tokens; None where there was nothing to score on."""

    activation: float
    """Normalised activation of the path shown."""

    max_activation: float
    """The neuron's largest activation over the corpus."""

    path: str
    """A path with the token, in reading order; the activating token stands in brackets."""


_TIERS: tuple[Tier, ...] = (
    Tier("exact", "activating"),
    Tier("exact", "context"),
    Tier("folded", "activating"),
    Tier("folded", "context"),
)

# For each neuron on the page, its best path that holds one of the matching tokens in the right role.
_SHOWN = """
    with hit as (select unnest($1::integer[]) as neuron_id, unnest($2::varchar[]) as role,
                        unnest($3::boolean[]) as exact),
    wanted as (select model_id, list(token_id) filter (text = $4) as exact_ids, list(token_id) as ids
               from tokens where text = $4 or (norm = $5 and $5 <> '') group by model_id)
    select n.neuron_id, n.name, n.layer, n."index", n.max_activation, s.f1, best.activation, best.text
    from hit h
    join neurons n using (neuron_id)
    join wanted w using (model_id)
    left join scores s on s.neuron_id = n.neuron_id and s.split = 'test' and s.method = 'n2g'
    join lateral (
        select p.activation, p.text from paths p
        where p.neuron_id = h.neuron_id and list_has_any(
            case when h.role = 'activating' then p.tokens[1:1] else p.tokens[2:] end,
            case when h.exact then w.exact_ids else w.ids end)
        order by p.activation desc, p.support desc, p.path_id limit 1
    ) best on true
"""


def search(
    store: Store,
    token: str,
    *,
    role: Role | None = None,
    layers: Sequence[int] | None = None,
    min_f1: float | None = None,
    limit: int = 20,
    offset: int = 0,
) -> Results[SearchHit]:
    """Find neurons by a token of their graphs.

    Args:
        store: the index.
        token: its exact text, spaces included: `" import"`.
        role: only neurons in which it has this role.
        layers: only these.
        min_f1: only neurons whose graph scores at least this.
        limit: most hits returned, at least 1.
        offset: hits left out at the front.

    Raises:
        TokenNotFound: when no token has this text, not even folded; carries suggestions.
        BadParameter: when limit or offset makes no sense.
    """
    if limit < 1 or offset < 0:
        raise BadParameter(f"limit must be at least 1 and offset at least 0, not {limit} and {offset}.")
    check_token(store, token)
    tiers = [
        (tier, token if tier.match == "exact" else fold(token))
        for tier in _TIERS
        if role in (None, tier.role) and (tier.match == "exact" or fold(token))
    ]
    hits, total = store.fulltext.neurons(tiers, layers=layers, min_f1=min_f1, limit=limit, offset=offset)
    ids = [neuron_id for neuron_id, _ in hits]
    roles = [tier.role for _, tier in hits]
    exact = [tier.match == "exact" for _, tier in hits]
    shown = {row[0]: row[1:] for row in store.query(_SHOWN, (ids, roles, exact, token, fold(token))).rows}
    rows = []
    for neuron_id, tier in hits:
        name, layer, index, max_activation, f1, activation, path = shown[neuron_id]
        rows.append(
            SearchHit(name, layer, index, tier.role, tier.match, f1, activation, max_activation, path)
        )
    return Results(tuple(rows), SearchHit, total)
