"""How well do the graphs predict their neurons?

The paper's table: mean over neurons of precision, recall and F1 on the held-out examples, for firing and for
non-firing tokens, by layer and method. One aggregation over the scores.
"""

from __future__ import annotations

from dataclasses import dataclass

from n2g_index.query.results import Results
from n2g_index.store.reader import Store


@dataclass(frozen=True, slots=True)
class LayerScore:
    """Mean scores of one method on one layer."""

    layer: int | None
    """None for all layers together."""

    method: str
    """`n2g`, the index's own graphs; `n2g_paper`, the paper's where those are refined; `token_lookup`;
    `ngram_lookup`."""

    neurons: int
    """Neurons scored: those that are alive and have a test example."""

    precision: float
    recall: float
    f1: float
    non_firing_precision: float
    non_firing_recall: float
    non_firing_f1: float
    median_f1: float
    """F1 (firing) of the median neuron."""


_SCORES = """
    with s as (
        select *, coalesce(tn / nullif(tn + fn, 0), 0) as p0, coalesce(tn / nullif(tn + fp, 0), 0) as r0
        from scores where split = 'test'
    )
    select n.layer, method, count(*), avg(precision), avg(recall), avg(f1), avg(p0), avg(r0),
        avg(coalesce(2 * p0 * r0 / nullif(p0 + r0, 0), 0)), median(f1)
    from s join neurons n using (neuron_id)
    group by grouping sets ((n.layer, method), (method))
    order by n.layer nulls last, method = 'n2g' desc, method = 'n2g_paper' desc, method = 'token_lookup' desc
"""


def get_scores(store: Store) -> Results[LayerScore]:
    """The score table."""
    rows = tuple(LayerScore(*row) for row in store.query(_SCORES).rows)
    return Results(rows, LayerScore, len(rows))
