"""Which neurons have to do with this token?

Hits are ranked in tiers: an exact token before a folded one, and within each an activating role before a
context role. Inside a tier they are ranked by F1 x share: how well the neuron's graph predicts it, times how
much of the graph is about the token (the share of its observations whose path has the token in that role);
then by max activation. F1 alone would put a good neuron on top that met the token once by the way. Each hit
shows its strongest path with the token.

Cost: one full-text query per tier and one scan over the paths of the neurons found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from n2g_index.errors import BadParameter
from n2g_index.graph.labels import fold
from n2g_index.query.results import Results
from n2g_index.query.tokens import check_token
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

    share: float
    """Share of the observations behind the graph whose path has the token in this role."""

    activation: float
    """Normalised activation of the path shown."""

    max_activation: float
    """The neuron's largest activation over the corpus."""

    path: str
    """A path with the token, in reading order; the activating token stands in brackets."""


_MOST = 2**31 - 1

_TIERS: tuple[Tier, ...] = (
    Tier("exact", "activating"),
    Tier("exact", "context"),
    Tier("folded", "activating"),
    Tier("folded", "context"),
)

# $1 neuron ids, $2 the tier of each (by number), $3 the token, $4 its folded form.
_RANKED = """
    with hit as (select unnest($1::integer[]) as neuron_id, unnest($2::integer[]) as tier),
    wanted as (
        select model_id, list(token_id) filter (text = $3) as exact, list(token_id) as folded
        from tokens where text = $3 or (norm = $4 and $4 <> '') group by model_id
    ),
    path as (
        select h.neuron_id, h.tier, p.activation, p.support, p.text, list_has_any(
            case when h.tier % 2 = 0 then p.tokens[1:1] else p.tokens[2:] end,
            case when h.tier < 2 then w.exact else w.folded end) as holds
        from hit h join paths p using (neuron_id) join neurons n using (neuron_id)
            join wanted w using (model_id)
        where p.fires
    ),
    found as (
        select neuron_id, tier, sum(support) filter (holds) / sum(support) as share,
            max(activation) filter (holds) as activation,
            first(text order by activation desc, support desc, text) filter (holds) as shown
        from path group by all
    )
    select n.name, n.layer, n."index", tier, s.f1, share, activation, n.max_activation, shown
    from found join neurons n using (neuron_id)
    left join scores s on s.neuron_id = n.neuron_id and s.split = 'test' and s.method = 'n2g'
    order by tier, coalesce(s.f1, 0) * share desc, n.max_activation desc, n.neuron_id
    limit $5 offset $6
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
    if max(limit, offset) > _MOST:
        raise BadParameter(f"limit and offset can be at most {_MOST}, not {limit} and {offset}.")
    check_token(store, token)
    folded = fold(token)
    asked = [
        (number, tier, token if tier.match == "exact" else folded)
        for number, tier in enumerate(_TIERS)
        if role in (None, tier.role) and (tier.match == "exact" or folded)
    ]
    found = store.fulltext.neurons([(tier, text) for _, tier, text in asked], layers=layers, min_f1=min_f1)
    ids = [neuron_id for neurons in found for neuron_id in neurons]
    numbers = [number for (number, *_), neurons in zip(asked, found, strict=True) for _ in neurons]
    ranked = store.query(_RANKED, (ids, numbers, token, folded, limit, offset)).rows
    rows = tuple(
        SearchHit(name, layer, index, _TIERS[tier].role, _TIERS[tier].match, *facts)
        for name, layer, index, tier, *facts in ranked
    )
    return Results(rows, SearchHit, len(ids))
