"""The reference pages say what the commands are: no more, and no less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hermes_actors.cli.command import Exit
from hermes_actors.cli.ctl import ctl
from hermes_actors.cli.supervisor import supervisor

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
COMMON = {"--home", "--json", "--help", "--version"}


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield name, command
    if isinstance(command, click.Group):
        for part, inner in command.commands.items():
            yield from leaves(inner, f"{name} {part}")


def groups(command: click.Command, name: str) -> Iterator[tuple[str, click.Group]]:
    if isinstance(command, click.Group):
        yield name, command
        for part, inner in command.commands.items():
            yield from groups(inner, f"{name} {part}")


GROUPS = dict([*groups(ctl, "hermes-ctl"), *groups(supervisor, "hermes-supervisor")])
COMMANDS = dict([*leaves(ctl, "hermes-ctl"), *leaves(supervisor, "hermes-supervisor")])


def sections() -> dict[str, str]:
    _, *parts = re.split(r"^## ", (REFERENCE / "cli.md").read_text(), flags=re.MULTILINE)
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def test_the_page_has_a_section_for_each_command() -> None:
    assert sorted(sections()) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_section_has_its_options_and_no_others(name: str) -> None:
    options = {option for param in COMMANDS[name].params if isinstance(param, click.Option) for option in param.opts}
    rows = re.findall(r"^\| (`-.*?) \|", sections()[name], flags=re.MULTILINE)
    written = {option for row in rows for option in re.findall(r"`(--?[a-z][a-z-]*)", row)}

    if name in ("hermes-supervisor check-config", "hermes-supervisor unit"):
        written.add("--config")  # told in its sentence
    assert written == options - COMMON


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_examples_are_those_of_its_help(name: str) -> None:
    (block,) = re.findall(r"^```\n(.*?)^```", sections()[name], flags=re.MULTILINE | re.DOTALL)
    _, _, *examples = (COMMANDS[name].epilog or "").splitlines()

    assert block.splitlines() == [example.strip() for example in examples]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_a_home_and_every_one_of_hermes_ctl_json(name: str) -> None:
    options = {option for param in COMMANDS[name].params for option in param.opts}

    assert "--home" in options
    assert "--json" in options or name in ("hermes-supervisor start", "hermes-supervisor unit")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_explains_every_option(name: str) -> None:
    assert COMMANDS[name].help
    assert all(param.help for param in COMMANDS[name].params if isinstance(param, click.Option))


@pytest.mark.parametrize("name", GROUPS)
def test_the_list_of_commands_is_not_cut_off(name: str) -> None:
    told = CliRunner().invoke(GROUPS[name], ["--help"], terminal_width=80)

    _, title, listed = told.output.partition("Commands:")

    assert title
    assert "..." not in listed


def test_the_page_of_exit_codes_has_each_of_them() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \|", (REFERENCE / "exit-codes.md").read_text(), flags=re.MULTILINE)

    assert {int(code): name for code, name in rows} == {code: code.name.lower().replace("_", " ") for code in Exit}
