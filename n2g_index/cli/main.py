"""`n2g-index`: the group of commands, and the one place where errors become output.

Commands are imported when they are called, so that `--help` and the reading commands start fast.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper

import click

from n2g_index import __version__
from n2g_index.errors import N2GError, UsageError

_COMMANDS = {
    "build": "n2g_index.cli.build",
    "info": "n2g_index.cli.read",
    "search": "n2g_index.cli.read",
    "show": "n2g_index.cli.read",
    "examples": "n2g_index.cli.read",
    "scores": "n2g_index.cli.read",
    "sql": "n2g_index.cli.read",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True
)
@click.version_option(__version__, prog_name="n2g-index")
@click.pass_context
def cli(context: click.Context) -> None:
    """Which neurons do that? A searchable Neuron-to-Graph index of a language model.

    \b
    n2g-index build -o demo.n2g      build an index of the embedded model
    n2g-index search " import"       which neurons have to do with this token
    n2g-index show L1N377            what one neuron does
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """Run the command line; exit 0 on success, 1 on an expected failure, 2 on wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a character gets its escape
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_arguments(sys.argv[1:])
        cli.main(standalone_mode=False)
        sys.stdout.flush()  # a closed pipe shows here, not in the interpreter's shutdown
    except N2GError as error:
        _fail(str(error), error.exit_code)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("Stopped; nothing was changed.", 130)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _drop_output()
        sys.exit(0)
    except OSError as error:
        if error.filename is not None:
            _fail(f"{error.filename!r} cannot be used: {error.strerror}.", 1)
        _drop_output()  # /dev/full, a disk that is full
        _fail(f"The output cannot be written: {error.strerror}.", 1)


def _check_arguments(arguments: list[str]) -> None:
    try:
        "".join(arguments).encode()
    except UnicodeEncodeError as error:
        raise UsageError("The command line holds bytes that are not UTF-8.") from error


def _drop_output() -> None:
    """Keep the interpreter from writing the rest of the output when it shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, exit_code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
