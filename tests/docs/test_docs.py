"""The documents say what is: links, configurations and commands in them hold."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from fakes.config_desk import Desk
from fakes.pages import PAGES, ROOT, anchors, blocks, commands, links, named
from fakes.running_gateway import installed

from hermes_actors.cli.ctl import ctl
from hermes_actors.cli.supervisor import supervisor

PROGRAMS: dict[str, click.Command] = {"hermes-ctl": ctl, "hermes-supervisor": supervisor}
BOUND_S = 30.0

_TYPED = [(page, command.line) for page in PAGES for command in commands(page)]
_OURS = [
    (page, found)
    for page, line in _TYPED
    for found in re.findall(r"(?:^|[\s/(])(hermes-(?:ctl|supervisor)\b[^|;&)\n]*)", line)
]
_CONFIGURATIONS = [(page, body) for page in PAGES for body in blocks(page, "yaml")]
_UNIT = ROOT / "docs/howto/run-under-systemd.md"


def _label(value: object) -> str:
    return named(value) if isinstance(value, Path) else str(value).partition("\n")[0]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        url = urlsplit(link)
        if url.scheme:
            continue
        target = (page.parent / url.path).resolve() if url.path else page
        if not target.exists() or (url.fragment and url.fragment not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs/README.md"

    linked = {(index.parent / link).resolve() for link in links(index)}

    assert set((ROOT / "docs").rglob("*.md")) - linked == {index}


@pytest.mark.parametrize(("page", "text"), _CONFIGURATIONS, ids=_label)
def test_every_configuration_is_accepted(page: Path, text: str, tmp_path: Path) -> None:
    names = re.findall(r"\$\{(\w+)\}|key_env: (\w+)", text)
    values = {name: f"value-of-{name}" for pair in names for name in pair if name}

    Desk.at(tmp_path / "home").accepted(text, {"OPENAI_API_KEY": "sk-0123", "API_SERVER_KEY": "key-01234567", **values})


@pytest.mark.parametrize(("page", "line"), _OURS, ids=_label)
def test_every_command_of_ours_exists_with_its_options(page: Path, line: str) -> None:
    name, *words = shlex.split(line, comments=True)
    command = PROGRAMS[name]
    with click.Context(command) as context:
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found, inner, words = command.resolve_command(context, words)
            assert found is not None
            assert inner is not None
            name, command = found, inner

        command.make_context(name, words)  # a click.UsageError names what is wrong


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=named)
def test_the_scripts_that_a_page_names_can_be_run(page: Path) -> None:
    scripts = set(re.findall(r"(?<![\w/])(?:bin/|\.ci/)[a-z-]+\b(?!\.)", page.read_text()))

    assert scripts
    assert [script for script in scripts if not os.access(ROOT / script, os.X_OK)] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_names_a_path_of_the_machine_it_was_written_on(page: Path) -> None:
    local = {str(ROOT), str(Path.home()) + "/"} | ({sys.prefix} if sys.prefix != sys.base_prefix else set())

    assert [path for path in local if path in page.read_text()] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    (unit,) = blocks(_UNIT, "ini")
    path = tmp_path / "hermes-actors.service"
    path.write_text(unit.replace("/opt/hermes-actors/bin", str(Path(installed("hermes-ctl")).parent)))

    told = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=BOUND_S, check=False
    )

    assert (told.stdout, told.stderr) == ("", "")  # it exits with 0 on unknown keys, but names them


def test_the_units_patience_is_above_the_supervisors_own(tmp_path: Path) -> None:
    (unit,) = blocks(_UNIT, "ini")
    agent = Desk.at(tmp_path / "home").accepted("").config.agent

    patience_s = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)

    assert patience_s is not None
    assert int(patience_s[1]) > agent.restart_drain_timeout + 10
