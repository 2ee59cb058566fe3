"""The command that builds an index."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, get_args

import click

from n2g_index.cli.output import print_json
from n2g_index.config import BuildConfig, Method, N2GConfig, parse_ranges

if TYPE_CHECKING:
    from rich.progress import Task

_DEFAULTS = BuildConfig()
_N2G = N2GConfig()


@click.command()
@click.option(
    "--model",
    default=_DEFAULTS.model,
    show_default=True,
    metavar="NAME|DIR",
    help="embedded, a Hugging Face hub name, a local model folder, or NeelNanda/...",
)
@click.option(
    "--corpus",
    multiple=True,
    default=_DEFAULTS.corpus,
    show_default=True,
    metavar="FILE|DIR|hf:NAME",
    help="Text to read: embedded, text files, folders, JSONL (.gz, .zst), Parquet, hf:NAME[:SPLIT]. "
    "May be given several times.",
)
@click.option(
    "--helper",
    default=_DEFAULTS.helper,
    show_default=True,
    metavar="NAME|DIR|none",
    help="Masked LM that proposes substitutes; auto is the embedded one for the embedded model, "
    "else distilbert-base-uncased.",
)
@click.option("--layers", metavar="RANGE", help="Layers to build: 3, 0-3 or 0,2; all if not given.")
@click.option("--neurons", metavar="RANGE", help="Neurons to build in each layer; all if not given.")
@click.option(
    "--hook", metavar="HOOK", help="TransformerLens hook to read, such as 'blocks.{layer}.mlp.hook_post'."
)
@click.option("--window", type=click.IntRange(2), help="Tokens per window; 255 or what the model can read.")
@click.option("--max-tokens", type=click.IntRange(1), help="Read no more than this of the corpus.")
@click.option(
    "--text-field",
    default=_DEFAULTS.text_field,
    show_default=True,
    help="Field or column that holds the text.",
)
@click.option(
    "--examples",
    type=click.IntRange(2),
    default=_DEFAULTS.examples,
    show_default=True,
    help="Top windows kept per neuron; half train, half test.",
)
@click.option(
    "--method",
    type=click.Choice(get_args(Method)),
    default=_N2G.method,
    show_default=True,
    help="How paths are found: as in the paper, or learnt from labelled tokens, which predicts better.",
)
@click.option(
    "--max-context",
    type=click.IntRange(1),
    default=_N2G.max_context,
    show_default=True,
    help="Longest minimal context.",
)
@click.option(
    "--substitutes",
    type=click.IntRange(0),
    default=_N2G.max_substitutes,
    show_default=True,
    help="Most substitutes tried per important token.",
)
@click.option(
    "--combinations",
    type=click.IntRange(1),
    default=_N2G.max_combinations,
    show_default=True,
    help="Most combinations of substitutes that are all tried; of more, the best that a climb finds.",
)
@click.option(
    "--chunk",
    type=click.IntRange(1),
    default=_DEFAULTS.chunk,
    show_default=True,
    help="Neurons worked on together.",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(1),
    help="Tokens per forward pass; 4096 on a CPU, else 65536.",
)
@click.option(
    "--device",
    default=_DEFAULTS.device,
    show_default=True,
    help="auto (CUDA where there is a GPU), cpu, cuda, cuda:1.",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Folder to create; NAME.n2g after the model."
)
@click.option("--replace", is_flag=True, help="Replace an index that is there already.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def build(
    model: str, corpus: tuple[str, ...], helper: str, layers: str | None, neurons: str | None,
    hook: str | None, window: int | None, max_tokens: int | None, text_field: str, examples: int,
    method: Method, max_context: int, substitutes: int, combinations: int, chunk: int,
    batch_tokens: int | None, device: str, out: Path | None, replace: bool, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Build an index of a model's neurons from a text."""
    config = BuildConfig(
        model=model,
        corpus=corpus,
        helper=helper,
        layers=parse_ranges(layers, "--layers") if layers else None,
        neurons=parse_ranges(neurons, "--neurons") if neurons else None,
        hook=hook,
        window=window,
        max_tokens=max_tokens,
        text_field=text_field,
        examples=examples,
        chunk=chunk,
        batch_tokens=batch_tokens,
        device=device,
        n2g=N2GConfig(
            method=method,
            max_context=max_context,
            max_substitutes=substitutes,
            max_combinations=combinations,
        ),
    )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns whenever a process forks
    from n2g_index.build import build as run

    target = out or Path(f"{model.rstrip('/').rsplit('/', 1)[-1]}.n2g")
    with _Bars(shown=not quiet) as bars:
        summary = run(config, target, replace=replace, reporter=bars)
    if as_json:
        print_json({**_facts(summary), "stats": summary.stats})
        return
    click.echo(
        f"{summary.path}: {summary.n_ok:,} neurons, {summary.n_dead:,} dead, {summary.n_failed:,} failed; "
        f"{summary.n_tokens:,} tokens read, {summary.stats.tokens_run:,} forwarded by N2G; "
        f"{summary.seconds:.0f} s"
    )


def _facts(summary: object) -> dict[str, object]:
    names = ("path", "n_ok", "n_dead", "n_failed", "n_windows", "n_tokens", "seconds")
    return {name: getattr(summary, name) for name in names}


class _Bars:
    """Shows a build's stages as bars with rate and time left; off a terminal, a line when each is done."""

    def __init__(self, *, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._lines = shown and not sys.stderr.isatty()
        self._progress = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown or self._lines,
        )
        self._task: Task | None = None
        self._begun = 0.0

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._complete()
        self._progress.stop()

    def stage(self, name: str, total: int | None, unit: str) -> None:
        self._complete()
        number = self._progress.add_task(name, total=total, unit=unit, rate="")
        self._task = next(task for task in self._progress.tasks if task.id == number)
        self._begun = monotonic()

    def done(self, n: int) -> None:
        if self._task is not None:
            rate = n / max(monotonic() - self._begun, 1e-3)
            shown = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"
            self._progress.update(self._task.id, completed=n, rate=shown)

    def warn(self, text: str) -> None:
        if self._lines:
            click.echo(f"Warning: {text}", err=True)
        else:
            self._progress.console.print(f"Warning: {text}", markup=False, highlight=False, soft_wrap=True)

    def _complete(self) -> None:
        if self._task is None:
            return
        n = self._task.completed or 1
        self._progress.update(self._task.id, total=n, completed=n)
        unit = self._task.fields["unit"]
        if self._lines and unit:
            click.echo(
                f"{self._task.description}: {n:,.0f} {unit}, {monotonic() - self._begun:.0f} s", err=True
            )
