"""How do commands print?

Tables for people, fitted to the terminal's width; JSON for programs. Colour only on a terminal. Texts from an
index are shown through `visible`, never as markup or raw control characters.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import orjson

from n2g_index.errors import DiskError
from n2g_index.graph.labels import columns, shorten, visible


def print_json(value: Any) -> None:
    """Print one JSON value: an array of objects for a table, an object for a single thing."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    try:
        text = orjson.dumps(value, default=_plain, option=option).decode()
    except orjson.JSONEncodeError:  # integers beyond 64 bits
        text = json.dumps(value, default=_plain, indent=2, ensure_ascii=False)
    click.echo(text)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return float(value) if isinstance(value, Decimal) else str(value)


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 0.01 and value else f"{value:.2f}"
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(cell(item) for item in value) + "]"
    return str(value)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print aligned columns; the last one gives way when the terminal is narrow.

    Args:
        headers: one per column.
        rows: already formatted cells.
        right: indices of the columns that are aligned to the right.
    """
    lines = [list(headers), *(list(row) for row in rows)]
    widths = [max(columns(line[i]) for line in lines) for i in range(len(headers))]
    room = terminal_width() - sum(widths[:-1]) - 2 * (len(widths) - 1)
    widths[-1] = min(widths[-1], max(room, 12))
    for number, line in enumerate(lines):
        padded = []
        for i, (text, width) in enumerate(zip(line, widths, strict=True)):
            shown = shorten(text, width)
            gap = " " * (width - columns(shown))
            padded.append(gap + shown if i in right else shown + gap)
        text = "  ".join(padded).rstrip()
        click.echo(click.style(text, bold=True) if number == 0 else text)


def terminal_width() -> int:
    """Columns of the terminal; wide when the output goes elsewhere."""
    if not sys.stdout.isatty():
        return 160
    import shutil

    return shutil.get_terminal_size().columns


def ending(text: str, width: int) -> str:
    """The end of a text: of a path that is the part next to the activating token."""
    if columns(text) <= width:
        return text
    while columns(text) >= width:
        text = text[1:]
    return f"…{text}"


def write_file(path: Path, content: str) -> None:
    """Write a text file.

    Raises:
        DiskError: when it cannot be written.
    """
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{str(path)!r} cannot be written: {error.strerror}.") from error


def index_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every reading command takes."""
    json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    index_option = click.option(
        "--index",
        "index_path",
        metavar="PATH",
        help="The index to read; else $N2G_INDEX, else the only *.n2g in this folder.",
    )
    return index_option(json_option(command))
