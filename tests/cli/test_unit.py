"""``hermes-supervisor unit``: what it prints fits this installation, and systemd understands it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.commands import piped, python
from fakes.running_gateway import installed as installed_program

from hermes_actors.cli.command import Failed
from hermes_actors.cli.unit import installed, unit_text
from hermes_actors.config.model import AgentSection, Config
from hermes_actors.home import Home

BOUND_S = 30.0
KEY = "a-long-enough-key"
SINCE_254 = re.compile(r"Unknown key (?:name )?'(RestartSteps|RestartMaxDelaySec)' in section")


def unit_line(home: Home, *arguments: str) -> list[str]:
    """The command line that prints a unit."""
    return python(
        "from hermes_actors.cli.entry import supervisor; supervisor()", "unit", "--home", str(home.root), *arguments
    )


def values(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


def text(**texts: str) -> str:
    return unit_text(
        Config(agent=AgentSection(restart_drain_timeout=600.0)),
        Home(Path(texts.get("home", "/srv/gw"))),
        start=["/opt/bin/hermes-supervisor", "start", "--home", texts.get("home", "/srv/gw")],
        reload=["/opt/bin/hermes-ctl", "reload"],
        path=texts.get("path", "/usr/bin"),
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["gw", "a home of 50% $HOME"])
def test_systemd_finds_no_fault_in_what_is_printed(home: Home, tmp_path: Path, name: str) -> None:
    below = Home(home.root / name)
    below.make()
    below.config.write_text("model: {provider: demo}\n")
    told = piped(unit_line(below), API_SERVER_KEY=KEY)
    path = tmp_path / "hermes-actors.service"
    path.write_text(told.stdout)

    verified = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(path)],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
        env={"XDG_RUNTIME_DIR": str(tmp_path)},
    )

    faults = [line for line in (verified.stdout + verified.stderr).splitlines() if not SINCE_254.search(line)]
    assert (told.returncode, faults) == (0, [])  # it exits with 0 on unknown keys, but names them


def test_it_starts_this_installation_on_this_home(home: Home) -> None:
    home.config.write_text("model: {provider: demo}\n")
    other = home.root / "other.yaml"
    shutil.copy(home.config, other)

    unit = piped(unit_line(home, "--config", str(other)), API_SERVER_KEY=KEY).stdout

    assert values(unit, "ExecStart") == [
        f"{installed_program('hermes-supervisor')} start --home {home.root} --config {other}"
    ]
    assert values(unit, "ExecReload") == [f"{installed_program('hermes-ctl')} reload --home {home.root}"]


def test_its_time_outs_fit_the_configuration() -> None:
    assert values(text(), "TimeoutStopSec") == ["630"]


def test_a_program_is_called_by_its_absolute_path_however_it_was_called() -> None:
    expected = Path(sys.executable).with_name("hermes-supervisor")

    assert installed(Path("-c")) == expected
    assert installed(expected) == expected


def test_a_program_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Failed, match="is not installed"):
        installed(Path("-c"))


def test_what_systemd_would_expand_is_taken_literally() -> None:
    unit = text(home="/srv/50% of $HOME", path="/a b:/100%")

    assert values(unit, "ExecStart") == ['/opt/bin/hermes-supervisor start --home "/srv/50%% of $$HOME"']
    assert values(unit, "Environment") == ['"PATH=/a b:/100%%"']


def test_a_place_is_looked_at_once() -> None:
    assert values(text(path="/opt/bin:/usr/bin::/opt/bin:/bin"), "Environment") == ['"PATH=/opt/bin:/usr/bin:/bin"']


def test_a_configuration_that_cannot_be_used_gets_no_unit(home: Home) -> None:
    home.config.write_text("model: {provder: demo}\n")

    told = piped(unit_line(home), API_SERVER_KEY=KEY)

    assert (told.returncode, told.stdout) == (78, "")


def test_a_variable_that_only_this_shell_has_is_named(home: Home) -> None:
    home.config.write_text("model: {provider: demo}\n")

    here = piped(unit_line(home), API_SERVER_KEY=KEY)
    home.env.write_text(f"API_SERVER_KEY={KEY}\n")
    home.env.chmod(0o600)
    kept = piped(unit_line(home))

    assert "API_SERVER_KEY is not set" in here.stderr
    assert str(home.env) in here.stderr
    assert KEY not in here.stdout + here.stderr
    assert (kept.returncode, kept.stderr) == (0, "")
    assert kept.stdout == here.stdout
