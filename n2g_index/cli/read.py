"""The commands that read an index."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

import n2g_index
from n2g_index.cli.output import (
    cell,
    ending,
    index_options,
    print_json,
    print_table,
    terminal_width,
    write_file,
)
from n2g_index.config import parse_ranges
from n2g_index.graph.labels import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from n2g_index.query.neuron import Example, Neuron, Optimum
    from n2g_index.store.fulltext import Role

_CONTEXT = 24
"""Tokens shown before and after the pivot of an example."""


@click.command()
@index_options
def info(index_path: str | None, as_json: bool) -> None:
    """What is in an index, and how it was made."""
    with n2g_index.open(index_path) as index:
        found = index.info()
    if as_json:
        facts = {key: value for key, value in asdict(found).items() if key != "layers"}
        print_json({**facts, "layers": found.layers.dicts()})
        return
    corpus = found.corpus
    click.echo(visible(f"{found.path}: {found.model}, read at {found.hook}"))
    click.echo(
        f"corpus {visible(', '.join(corpus['names']))}: {corpus['tokens']:,} tokens, "
        f"{corpus['windows']:,} windows of {corpus['window']}"
    )
    click.echo(f"helper {visible(found.helper)}; built {found.finished}; {found.bytes / 1e6:.1f} MB\n")
    headers = ("layer", "neurons", "dead", "failed", "paths", "per neuron", "longest context", "polysemantic")
    rows = [[cell(value) for value in row.values()] for row in found.layers.dicts()]
    print_table(headers, rows, right=range(len(headers)))


@click.command()
@click.argument("token")
@click.option(
    "--role", type=click.Choice(["activating", "context"]), help="Only neurons where it has this role."
)
@click.option("--layer", metavar="RANGE", help="Only these layers: 2, 2-4 or 0,2.")
@click.option("--min-f1", type=click.FloatRange(0, 1), help="Only neurons whose graph scores at least this.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Most hits printed.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Hits left out at the front.")
@click.option("--names", is_flag=True, help="Print only the neurons' names, one a line.")
@index_options
def search(
    token: str, role: str | None, layer: str | None, min_f1: float | None, limit: int, offset: int,
    names: bool, index_path: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Which neurons have to do with TOKEN (spaces count: " import").

    Ranked: the exact token before one that differs in case or spaces, neurons that fire on it before neurons
    that need it before them; then by the F1 of the neuron's graph times the share of the graph that is about
    the token, and by activation.
    """
    layers = parse_ranges(layer, "--layer") if layer else None
    with n2g_index.open(index_path) as index:
        hits = index.search(
            token, role=cast("Role | None", role), layers=layers, min_f1=min_f1, limit=limit, offset=offset
        )
    if as_json:
        print_json(hits.dicts())
        return
    if names:
        for hit in hits:
            click.echo(hit.neuron)
        return
    if not hits and hits.total:
        click.echo(f"There are only {hits.total} hits.")
        return
    if not hits:
        click.echo(f"No neuron has {token!r} in its graph under these conditions.")
        return
    room = terminal_width() - 50
    print_table(
        ("neuron", "role", "match", "F1", "share", "activation", "path"),
        (
            (
                h.neuron,
                h.role,
                h.match,
                cell(h.f1),
                cell(h.share),
                cell(h.max_activation),
                ending(h.path, max(room, 20)),
            )
            for h in hits
        ),
        right=(3, 4, 5),
    )
    click.echo(f"\n{len(hits)} of {hits.total} neurons")


@click.command()
@click.argument("neuron")
@click.option(
    "--svg", type=click.Path(dir_okay=False, path_type=Path), help="Write the graph as an SVG file."
)
@click.option(
    "--lines", type=click.IntRange(1), default=40, show_default=True, help="Most lines of tree printed."
)
@index_options
def show(neuron: str, svg: Path | None, lines: int, index_path: str | None, as_json: bool) -> None:
    """What NEURON (L3N15, 3:15, ...) does: its scores, its graph and what drives it hardest.

    The optimum is the strongest of the minimal contexts with substitutes in place of their important tokens;
    its activation is above 1 where that is stronger than anything in the corpus.
    """
    with n2g_index.open(index_path) as index:
        found = index.neuron(neuron)
        strongest = index.examples(neuron, limit=1)
    if svg is not None:
        from n2g_index.render.svg import to_svg

        write_file(svg, to_svg(found.graph, found.labels, title=found.name, subtitle=_caption(found)))
    if as_json:
        print_json(found)
        return
    from n2g_index.render.text import to_text

    click.echo(_summary(found))
    title = f"{found.name} of {found.model}"
    click.echo(to_text(found.trie, found.labels, title=title, max_lines=lines, color=sys.stdout.isatty()))
    if found.optimum is not None:
        click.echo("\n".join(_drivers(found, found.optimum, strongest[0])))
    if svg is not None:
        click.echo(f"\nwrote {svg}")


def _caption(neuron: Neuron) -> str:
    """The line under a drawing's title: short, as a small graph is narrow."""
    score = neuron.score()
    if score is None:
        return neuron.status
    return f"precision {score.precision:.2f}, recall {score.recall:.2f}, F1 {score.f1:.2f}"


def _summary(neuron: Neuron) -> str:
    if neuron.status != "ok":
        return f"{neuron.status}: {visible(neuron.error or 'it is positive nowhere in the corpus')}"
    parts = [
        f"max activation {neuron.max_activation:.2f}",
        f"fires on {100 * (neuron.density or 0):.3g} % of tokens",
    ]
    score, lookup = neuron.score(), neuron.score("token_lookup")
    if score is not None and lookup is not None:
        parts.append(f"precision {score.precision:.2f}, recall {score.recall:.2f}, F1 {score.f1:.2f}")
        parts.append(f"token lookup F1 {lookup.f1:.2f}")
    return "; ".join(parts)


def _drivers(neuron: Neuron, optimum: Optimum, example: Example) -> list[str]:
    """What drives a neuron hardest, as it was read and as it could be; with normalised activations."""
    context = max(neuron.optima, key=lambda o: o.original_activation)
    read = _reading(example.tokens[: example.pivot + 1], {})
    substitutes = {k: optimum.tokens[k] for k in optimum.substituted}
    best = "the same" if optimum.tokens == context.original else _reading(optimum.original, substitutes)
    rows = (
        ("strongest example", example.activations[example.pivot], ending(read, terminal_width() - 33)),
        ("strongest minimal context", context.original_activation, _reading(context.original, {})),
        ("optimum", optimum.activation, best),
    )
    legend = "⟨original→substitute⟩" if substitutes else "no combination of substitutes is stronger"
    tried = f"{optimum.n_tried:,} combinations tried" + ("" if optimum.exact else ", there are more")
    return [
        *(f"{name:25}  {activation:.2f}  {text}" for name, activation, text in rows),
        click.style(f"{legend} · {tried}", dim=True),
    ]


def _reading(tokens: Sequence[str], substitutes: Mapping[int, str]) -> str:
    """A context in reading order, its pivot in brackets at the end."""
    *before, pivot = (
        f"⟨{visible(token)}→{visible(substitutes[k])}⟩" if k in substitutes else visible(token)
        for k, token in enumerate(tokens)
    )
    return " ".join([*before, f"[{pivot}]"])


@click.command()
@click.argument("neuron")
@click.option("--limit", type=click.IntRange(1), default=5, show_default=True, help="Most examples printed.")
@click.option("--split", type=click.Choice(["train", "test"]), help="Only one half of the examples.")
@index_options
def examples(neuron: str, limit: int, split: str | None, index_path: str | None, as_json: bool) -> None:
    """On which text NEURON is strongest; tokens that fire stand in [brackets] with their activation."""
    with n2g_index.open(index_path) as index:
        found = index.examples(neuron, limit=limit, split=split)
        status = "ok" if found else index.neuron(neuron).status
    if as_json:
        print_json(found.dicts())
        return
    if not found:
        click.echo(_why_no_examples(status, neuron, split))
    for example in found:
        head = f"#{example.rank}  {example.split}  {example.max_activation:.2f}  {visible(example.source)}"
        click.echo(click.style(head, bold=True))
        click.echo(_snippet(example) + "\n")


def _why_no_examples(status: str, neuron: str, split: str | None) -> str:
    if status == "failed":
        return f"{neuron} failed in the build and has no examples: 'n2g-index show {neuron}' says why."
    if status == "dead":
        return f"{neuron} is positive nowhere in the corpus."
    return f"{neuron} has no {split} examples."


def _snippet(example: Example) -> str:
    first, last = max(0, example.pivot - _CONTEXT), example.pivot + _CONTEXT + 1
    parts = ["…"] if first else []
    shown = slice(first, last)
    for text, activation, fires in zip(
        example.tokens[shown], example.activations[shown], example.fires[shown], strict=True
    ):
        if fires:
            parts.append(click.style(f"[{visible(text)} {activation:.2f}]", fg="red"))
        else:
            parts.append(text if text.strip() and text.isprintable() else visible(text))
    return "".join(parts) + ("…" if last < len(example.tokens) else "")


@click.command()
@index_options
def scores(index_path: str | None, as_json: bool) -> None:
    """How well the graphs predict their neurons on held-out examples, by layer, next to two lookup tables."""
    with n2g_index.open(index_path) as index:
        found = index.scores()
    if as_json:
        print_json(found.dicts())
        return
    click.echo(f"{'':31}{'firing tokens':^34}  {'non-firing tokens':^24}")
    print_table(
        ("layer", "method", "neurons", "precision", "recall", "F1", "median F1", "precision", "recall", "F1"),
        (
            ("all" if s.layer is None else str(s.layer), s.method, str(s.neurons), *(
                f"{value:.3f}" for value in (
                    s.precision, s.recall, s.f1, s.median_f1,
                    s.non_firing_precision, s.non_firing_recall, s.non_firing_f1,
                )
            ))
            for s in found
        ),
        right=range(2, 10),
    )  # fmt: skip


@click.command()
@click.argument("statement")
@click.option(
    "--limit", type=click.IntRange(1, 10**9), default=1000, show_default=True, help="Most rows printed."
)
@index_options
def sql(statement: str, limit: int, index_path: str | None, as_json: bool) -> None:
    """Run one reading SQL STATEMENT over the tables (see schemas/index.sql)."""
    with n2g_index.open(index_path) as index:
        answer = index.sql(statement, limit=limit + 1)
    rows = answer.rows[:limit]
    if as_json:
        print_json([dict(zip(answer.columns, row, strict=True)) for row in rows])
    else:
        numeric = [i for i, v in enumerate(rows[0]) if isinstance(v, int | float)] if rows else []
        print_table(answer.columns, ([cell(value) for value in row] for row in rows), right=numeric)
    if len(answer.rows) > limit:
        click.echo(f"There are more than {limit} rows: raise --limit to see them.", err=True)
