"""README says what is true: its commands, options, paths and pictures exist."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import click
import pytest

from n2g_index.cli.main import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[tuple[str, click.Command]]:
    context = click.Context(cli)
    found = [(name, cli.get_command(context, name)) for name in cli.list_commands(context)]
    return [(name, command) for name, command in found if command is not None]


@pytest.mark.parametrize(("name", "command"), commands())
def test_every_command_has_help_and_stands_in_the_readme(name: str, command: click.Command) -> None:
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    assert f"n2g-index {name}" in README


def test_every_command_and_option_in_the_readme_exists() -> None:
    known = dict(commands())
    lines = [
        line.strip() for block in re.findall(r"```\w*\n(.*?)```", README, re.S) for line in block.splitlines()
    ]
    calls = [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?n2g-index ", line)]
    assert calls
    for call in calls:
        name, *rest = call.removeprefix("n2g-index ").split()
        assert name in known, call
        options = {flag for option in known[name].params for flag in option.opts}
        for word in rest:
            if re.fullmatch(r"--?[a-z][a-z0-9-]*", word):
                assert word in options, call


def test_every_path_in_the_readme_exists() -> None:
    linked = re.findall(r"\]\((?!https?:|#)([^)]+)\)", README)
    named = re.findall(r"^\| `([\w./-]+/?)` \|", README, re.M)
    assert linked
    assert named
    for path in (*linked, *named):
        assert (ROOT / path).exists(), path


def test_make_targets_in_the_readme_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"[`$] ?make ([a-z-]+)", README):
        assert target in targets


def test_pictures_are_well_formed() -> None:
    for path in re.findall(r"\]\(([^)]+\.svg)\)", README):
        ElementTree.parse(ROOT / path)
