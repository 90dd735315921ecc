"""``hermes-supervisor``: what it makes of its flags, and how it exits. Starting workers is tested elsewhere."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes.commands import BOUND_S, POLL_S, piped, python
from rich.console import Console

from hermes_actors import logs
from hermes_actors.cli import supervisor as command
from hermes_actors.cli.command import Exit
from hermes_actors.cli.welcome import welcome
from hermes_actors.config.load import load
from hermes_actors.config.model import Settings
from hermes_actors.config.problems import ConfigError
from hermes_actors.home import Home
from hermes_actors.pool.fork_server import ForkServer
from hermes_actors.restart.handover import VARIABLE, CommandLine, Handover
from hermes_actors.supervisor import service
from hermes_actors.supervisor.service import Serving

KEY = "a-long-enough-key"
DEMO = "model: {provider: demo}\n"
LEFT = Handover(
    boot="boot-2", lock=0, listeners=(), fork_server=ForkServer(pid=1, address="/nowhere", alive=0, code="")
)
SERVING = Serving(pid=4700, host="127.0.0.1", port=4711, workers=2)


def supervisor(*arguments: str) -> list[str]:
    return python("from hermes_actors.cli.entry import supervisor; supervisor()", *arguments)


class FakeService:
    """Stands in for ``serve``: keeps what it was called with, and does what a test wants."""

    def __init__(
        self, fails: Exception | None = None, *, fails_later: Exception | None = None, leaves: Handover | None = None
    ) -> None:
        self.settings: Settings
        self.reload: Callable[[], Settings]
        self.inherited: Handover | None
        self._fails = fails
        self._fails_later = fails_later
        self._leaves = leaves

    def __call__(
        self,
        settings: Settings,
        home: Home,
        *,
        ready: Callable[[Serving], None],
        reload: Callable[[], Settings],
        command: CommandLine,
        inherited: Handover | None,
    ) -> Handover | None:
        self.settings = settings
        self.reload = reload
        self.inherited = inherited
        if self._fails is not None:
            raise self._fails
        ready(SERVING)
        if self._fails_later is not None:
            raise self._fails_later
        return self._leaves


@pytest.fixture
def start(home: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Start with a fake service, in this process."""
    home.config.write_text(DEMO)
    monkeypatch.setenv("API_SERVER_KEY", KEY)
    monkeypatch.setattr(logs, "configure", lambda **options: None)

    def run(fake: FakeService, *arguments: str) -> Result:
        monkeypatch.setattr(command, "serve", fake)
        return CliRunner().invoke(command.supervisor, ["start", "--home", str(home.root), *arguments])

    return run


@pytest.mark.parametrize(("flags", "workers"), [((), "auto"), (("--workers", "3"), 3), (("--workers", "auto"), "auto")])
def test_the_flag_overrides_the_configured_number_of_workers(
    start: Callable[..., Result], flags: tuple[str, ...], workers: Any
) -> None:
    fake = FakeService()

    assert start(fake, *flags).exit_code == 0
    assert fake.settings.config.supervisor.workers == workers


def test_a_reload_reads_the_files_as_they_are_then_with_the_flags_of_the_start(
    start: Callable[..., Result], home: Home, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("agent: {max_turns: 7}\n")
    fake = FakeService()
    start(fake, "--config", str(other), "--workers", "3", "--demo")

    other.write_text("agent: {max_turns: 8}\n")
    again = fake.reload()

    assert (fake.settings.config.agent.max_turns, again.config.agent.max_turns) == (7, 8)
    assert again.config.supervisor.workers == 3
    assert again.config.model.provider == "demo"


def test_a_reload_of_what_cannot_be_used_is_a_configuration_error(start: Callable[..., Result], home: Home) -> None:
    fake = FakeService()
    start(fake)

    home.config.write_text("agent: {max_turn: 7}\n")

    with pytest.raises(ConfigError, match="did you mean max_turns"):
        fake.reload()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give files away")
def test_root_does_not_start_the_home_of_another_user_and_makes_nothing_there(home: Home) -> None:
    home.config.write_text(DEMO)
    for path in (home.root, home.config):
        os.chown(path, 4711, 4711)
    home.root.chmod(0o777)
    before = sorted(home.root.rglob("*"))

    result = CliRunner().invoke(command.supervisor, ["start", "--home", str(home.root), "--demo"])

    assert result.exit_code == Exit.FAILED
    assert "belongs to another user (4711), and you are root" in result.output
    assert sorted(home.root.rglob("*")) == before
    assert home.root.stat().st_mode & 0o777 == 0o777


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give files away")
def test_root_does_not_start_with_a_configuration_of_another_user(start: Callable[..., Result], tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(DEMO)
    os.chown(other, 4711, 4711)

    result = start(FakeService(), "--config", str(other))

    assert result.exit_code == Exit.CONFIGURATION
    assert "belongs to another user" in result.output


@pytest.mark.parametrize("text", ["model: {key_env: KEY}", "model: {api_key: KEY}", "api_server: {keys: {bob: KEY}}"])
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_check_repeats_no_key(home: Home, text: str, flags: tuple[str, ...]) -> None:
    key = "a3f09c1d7e5b428896f1c0d2e3b4a5968778695a4b3c2d1e"
    home.config.write_text(text.replace("KEY", key))

    result = CliRunner().invoke(command.supervisor, ["check-config", "--home", str(home.root), *flags])

    assert result.exit_code == Exit.CONFIGURATION
    assert key not in result.output


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5", "100000"])
def test_a_wrong_number_of_workers_is_wrong_usage(start: Callable[..., Result], wrong: str) -> None:
    assert start(FakeService(), "--workers", wrong).exit_code == Exit.USAGE


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (service.HomeBusy(home=os.path, pid=7), Exit.FAILED),  # type: ignore[arg-type]  # any text will do
        (service.HomeUnusable("no"), Exit.FAILED),
        (service.RegistryUnusable("no"), Exit.FAILED),
        (service.ListenFailed("no"), Exit.FAILED),
        (service.SupervisorFailed("no"), Exit.FAILED),
        (service.ShardsFixed(configured=8, fixed=16), Exit.CONFIGURATION),
        (service.TooManyWorkers("no"), Exit.CONFIGURATION),
    ],
)
def test_a_start_that_fails_says_why_and_has_its_exit_code(
    start: Callable[..., Result], failure: Exception, code: Exit
) -> None:
    result = start(FakeService(failure))

    assert result.exit_code == code
    assert result.stderr == f"Error: {failure}\n"


@pytest.fixture
def next_life(monkeypatch: pytest.MonkeyPatch) -> Handover:
    """What a start finds that goes on from an earlier life of the process."""
    monkeypatch.setattr(command, "take", lambda: LEFT)
    return LEFT


def test_a_start_goes_on_with_what_an_earlier_life_left(start: Callable[..., Result], next_life: Handover) -> None:
    fake = FakeService()

    assert start(fake).exit_code == 0
    assert fake.inherited is next_life


@pytest.mark.usefixtures("next_life")
@pytest.mark.parametrize("failure", [service.ListenFailed("no"), service.TooManyWorkers("no")])
def test_a_restart_in_place_that_cannot_be_ended_exits_75(start: Callable[..., Result], failure: Exception) -> None:
    result = start(FakeService(failure))

    assert result.exit_code == Exit.RESTART
    assert result.stderr == "Error: the gateway did not start again: no\n"


@pytest.mark.usefixtures("next_life")
def test_a_configuration_that_was_spoilt_during_a_restart_exits_75(start: Callable[..., Result], home: Home) -> None:
    assert start(FakeService(), "--config", "/nowhere.yaml").exit_code == Exit.RESTART


@pytest.mark.usefixtures("next_life")
def test_a_gateway_that_fails_after_it_has_served_again_exits_1(start: Callable[..., Result]) -> None:
    assert start(FakeService(fails_later=service.SupervisorFailed("no"))).exit_code == Exit.FAILED


def test_what_an_earlier_life_left_and_nobody_understands_exits_75(
    start: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps({"pid": os.getpid()}))

    assert start(FakeService()).exit_code == Exit.RESTART
    assert VARIABLE not in os.environ


def test_a_program_that_cannot_be_run_again_exits_75(
    start: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_handover: Handover, command: CommandLine) -> None:
        raise FileNotFoundError(2, "No such file or directory", command.words[0])

    monkeypatch.setattr(Handover, "exec", gone)

    result = start(FakeService(leaves=LEFT))

    assert result.exit_code == Exit.RESTART
    assert "cannot be run again: No such file or directory" in result.stderr


def test_a_rehearsal_ends_without_having_started_anything(home: Home) -> None:
    home.config.write_text(DEMO)
    running = json.dumps({"port": 8642, "shards": 8})
    before = {path.name for path in home.root.rglob("*")}

    ran = piped(supervisor("start", "--home", str(home.root)), API_SERVER_KEY=KEY, HERMES_ACTORS_REHEARSAL=running)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert {path.name for path in home.root.rglob("*")} == before


def test_a_rehearsal_objects_as_a_start_would(home: Home) -> None:
    home.config.write_text(f"{DEMO}supervisor: {{shards: 16}}\n")
    running = json.dumps({"port": 8642, "shards": 8})

    ran = piped(supervisor("start", "--home", str(home.root)), API_SERVER_KEY=KEY, HERMES_ACTORS_REHEARSAL=running)

    assert ran.returncode == Exit.CONFIGURATION
    assert "made with 8 shards" in ran.stderr


def test_a_bad_configuration_exits_78_with_file_and_line(home: Home) -> None:
    home.config.write_text("model:\n  provder: demo\n")

    ran = piped(supervisor("start", "--home", str(home.root)))

    assert ran.returncode == 78
    assert f"{home.config}:2" in ran.stderr
    assert "provider" in ran.stderr


def test_a_held_home_exits_1(home: Home, hold_lock: Callable[[], Callable[[], None]]) -> None:
    home.config.write_text(DEMO)
    hold_lock()

    ran = piped(supervisor("start", "--home", str(home.root)), API_SERVER_KEY=KEY)

    assert (ran.returncode, ran.stdout) == (1, "")
    assert "a supervisor is already running on" in ran.stderr


def test_a_taken_port_exits_1(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        home.config.write_text(f"{DEMO}api_server: {{port: {port}}}\n")

        ran = piped(supervisor("start", "--home", str(home.root)), API_SERVER_KEY=KEY)

    assert ran.returncode == 1
    assert str(port) in ran.stderr


def test_check_config_tells_what_the_configuration_amounts_to(home: Home) -> None:
    home.config.write_text(DEMO)

    people = piped(supervisor("check-config", "--home", str(home.root)), API_SERVER_KEY=KEY)
    machines = piped(supervisor("check-config", "--home", str(home.root), "--json"), API_SERVER_KEY=KEY)

    assert (people.returncode, machines.returncode) == (0, 0)
    assert "http://127.0.0.1:8642" in people.stdout
    assert {"name": "supervisor", "value": "workers: auto, shards: auto"} in json.loads(machines.stdout)["summary"]
    assert KEY not in people.stdout + machines.stdout


def test_check_config_warns_of_an_mcp_command_that_is_not_there(home: Home) -> None:
    home.config.write_text(f"{DEMO}mcp_servers: {{a: {{command: no-such-server}}}}\n")

    people = piped(supervisor("check-config", "--home", str(home.root)), API_SERVER_KEY=KEY)
    machines = piped(supervisor("check-config", "--home", str(home.root), "--json"), API_SERVER_KEY=KEY)

    assert (people.returncode, machines.returncode) == (0, 0)
    assert people.stderr.startswith("warning: mcp_servers.a.command: it is not on PATH: no-such-server\n")
    (warning,) = json.loads(machines.stdout)["warnings"]
    assert "no-such-server" in warning


def test_check_config_of_a_bad_configuration_exits_78(home: Home) -> None:
    ran = piped(supervisor("check-config", "--config", "/nowhere.yaml", "--home", str(home.root), "--json"))

    assert ran.returncode == 78
    assert json.loads(ran.stdout)["error"]["code"] == "configuration"


@pytest.mark.parametrize(
    ("environ", "key"), [({"API_SERVER_KEY": KEY}, "$API_SERVER_KEY"), ({}, "$(. {env} && echo $A")]
)
def test_the_welcome_says_how_to_talk_to_the_gateway_and_holds_no_secret(
    home: Home, environ: dict[str, str], key: str
) -> None:
    home.env.write_text(f"API_SERVER_KEY={KEY}\n")
    home.env.chmod(0o600)
    settings = load(home, config_path=None, environ=environ, demo=True)
    out = io.StringIO()

    Console(file=out, width=60).print(welcome(settings, home, SERVING, environ), soft_wrap=True)

    shown = out.getvalue()
    assert "2 workers" in shown
    assert f"hermes-ctl chat --home {home.root}" in shown
    assert "curl http://127.0.0.1:4711/v1/chat/completions" in shown
    assert f"Authorization: Bearer {key.replace('{env}', str(home.env))}" in shown
    assert KEY not in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_it_loads_leaves_no_traceback_and_a_reload_ends_nothing(
    home: Home, number: signal.Signals
) -> None:
    (home.root / "config.yaml").write_text(DEMO)
    line = supervisor("start", "--home", str(home.root))
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8") as started:
        _wait_for_its_first_words(started.pid)
        started.send_signal(number)
        if number is signal.SIGHUP:
            started.send_signal(signal.SIGTERM)
        said, _ = started.communicate(timeout=BOUND_S)

    assert "Traceback" not in said
    assert started.returncode != -signal.SIGHUP
    assert started.returncode <= 0, "by the signal; or in order, where it came late"


def _wait_for_its_first_words(pid: int) -> None:
    """Return once it has said which signals wait."""
    deadline = time.monotonic() + BOUND_S
    while True:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        if int(status["SigBlk"], 16) & (1 << (signal.SIGHUP - 1)):
            return
        assert time.monotonic() < deadline
        time.sleep(POLL_S)
