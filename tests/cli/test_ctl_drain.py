"""``hermes-ctl drain``, ``restart`` and ``stop`` against a fake supervisor: what they ask, show and exit with."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes.commands import at_terminal, piped
from fakes.commands import ctl as ctl_line
from fakes.control_peer import BOUND_S, Behaviour, FakeSupervisor, answer, answering
from fakes.operations import made

from hermes_actors.cli import drain as command
from hermes_actors.cli.ctl import ctl
from hermes_actors.cli.drain_view import LINE_INTERVAL_S, Lines, outcome, plan, running, summary
from hermes_actors.cli.render import console
from hermes_actors.home import Home
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.requests import BeginDrain
from hermes_actors.operations.results import Drained, DrainPlanned, DrainShown, Then
from hermes_actors.operators.messages import OperatorRequest

Start = Callable[[Behaviour], FakeSupervisor]

NOW = time.time()
TURN = {"worker": 1, "key": "api:default:cli", "turn_id": "turn_1", "started_at": NOW - 7300, "stateless": False}
STATELESS = {**TURN, "key": "stateless:4f", "stateless": True}
STATUS = {
    "phase": "draining", "then": "stop", "began_at": NOW, "deadline_at": NOW + 41, "left_s": 41.2,
    "turns": [TURN, STATELESS], "count": 2, "queued": 3, "missing": [],
}  # fmt: skip
DONE = {
    "marked": 0,
    "cut": [],
    "stateless": 0,
    "waiting": 0,
    "silent": [],
    "suspended": [],
    "took_s": 1.5,
    "then": "stop",
}
CUT = {**DONE, "marked": 2, "cut": ["api:default:a", "api:default:b"], "stateless": 1, "suspended": ["api:default:b"]}
PLAN: dict[str, Any] = {
    "timeout_s": 60.0, "finishes": 1, "cut": 1, "unknown": 0, "queued": 2, "missing": [1],
    "turns": [
        {**TURN, "age_s": 95.0, "usual_s": 300.0, "outcome": "cut", "strikes": 2, "suspends": True},
        {**TURN, "key": "api:default:b", "age_s": 2.0, "usual_s": 4.0, "outcome": "finishes", "strikes": 0,
         "suspends": False},
    ],
}  # fmt: skip
BACK = "hermes-ctl sessions resume brings it back"


class Draining:
    """A supervisor that drains: it answers ``drain`` when it is released, and then ends or restarts."""

    def __init__(self, reply: dict[str, Any], *, until_looked_at: bool) -> None:
        self.over = threading.Event()
        self.asked: list[dict[str, Any]] = []
        self.boot = "one"
        self._reply = reply
        self._until_looked_at = until_looked_at

    def __call__(self, connection: socket.socket, request: OperatorRequest) -> None:
        match request.operation:
            case "status":
                answer(connection, request, {"boot": self.boot, "pid": 7, "version": "9", "phase": "serving"})
            case "drain.status":
                answer(connection, request, STATUS)
                if self._until_looked_at:
                    self.over.set()
            case "drain":
                self.asked.append(request.arguments)
                threading.Thread(target=self._end, args=(connection.dup(), request)).start()

    def _end(self, connection: socket.socket, request: OperatorRequest) -> None:
        with contextlib.suppress(OSError), connection:  # the client may have let go
            assert self.over.wait(BOUND_S)
            self.boot = "two"
            answer(connection, request, self._reply)
            connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "POLL_S", 0.01)
    for name in ("HERMES_ACTORS_HOME", "HERMES_ACTORS_SESSION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def draining(supervisor: Start) -> Iterator[Callable[..., Draining]]:
    made: list[Draining] = []

    def start(reply: dict[str, Any] = DONE, *, waits: bool = False, until_looked_at: bool = False) -> Draining:
        made.append(Draining(reply, until_looked_at=until_looked_at))
        if not waits and not until_looked_at:
            made[-1].over.set()
        supervisor(made[-1])
        return made[-1]

    yield start
    for one in made:
        one.over.set()


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(ctl, [*arguments, "--home", str(home.root)])


# -- what is asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "timeout", "then"),
    [
        (("drain",), None, "stop"),
        (("drain", "--timeout", "2.5"), 2.5, "stop"),
        (("drain", "--hold"), None, "hold"),
        (("drain", "--restart", "--timeout", "0"), 0.0, "restart"),
        (("restart",), None, "restart"),
        (("restart", "--timeout", "7"), 7.0, "restart"),
    ],
)
def test_a_drain_asks_for_what_its_options_say(
    home: Home, draining: Callable[..., Draining], words: tuple[str, ...], timeout: float | None, then: str
) -> None:
    fake = draining({**DONE, "then": then})

    assert run(home, *words).exit_code == 0
    assert fake.asked == [to_plain(BeginDrain(timeout=timeout, then=Then(then)))]


@pytest.mark.parametrize(
    "words",
    [
        ("--restart", "--hold"),
        ("--hold", "--cancel"),
        ("--cancel", "--restart"),
        ("--cancel", "--plan"),
        ("--cancel", "--timeout", "3"),
        ("--timeout", "-1"),
        ("--timeout", "soon"),
        ("--timeout", "nan"),
        ("--timeout", "inf"),
        ("--timeout", "31622401"),
    ],
)
def test_options_that_exclude_each_other_are_wrong_usage(home: Home, words: tuple[str, ...]) -> None:
    assert run(home, "drain", *words).exit_code == 2


def test_a_time_that_is_none_is_told_in_the_words_of_people(home: Home) -> None:
    assert "'soon' is not a valid number of seconds" in run(home, "drain", "--timeout", "soon").stderr


def test_a_cancel_begins_turns_again(home: Home, supervisor: Start) -> None:
    fake = supervisor(answering({"drain.cancel": {}}))

    people, machines = run(home, "drain", "--cancel"), run(home, "drain", "--cancel", "--json")

    assert (people.exit_code, people.stdout) == (0, "cancelled: turns start again\n")
    assert json.loads(machines.stdout) == {"cancelled": True}
    assert {request.operation for request in fake.requests} == {"drain.cancel"}


@pytest.mark.parametrize("words", [("drain",), ("drain", "--plan"), ("drain", "--cancel"), ("restart",), ("stop",)])
def test_without_a_supervisor_there_is_nothing_to_drain(home: Home, words: tuple[str, ...]) -> None:
    assert run(home, *words).exit_code == 4


# -- how it went ------------------------------------------------------------------------------------------------------


def test_a_drain_that_cut_nothing_exits_0(home: Home, draining: Callable[..., Draining]) -> None:
    draining()

    people, machines = run(home, "drain"), run(home, "drain", "--json")

    assert (people.exit_code, people.stdout) == (0, "stopped\nall turns finished\n")
    assert (machines.exit_code, json.loads(machines.stdout), machines.stderr) == (0, DONE, "")


def test_a_drain_that_had_to_mark_sessions_exits_3_and_names_them(
    home: Home, draining: Callable[..., Draining]
) -> None:
    draining(CUT)

    people, machines = run(home, "drain"), run(home, "drain", "--json")

    assert (people.exit_code, machines.exit_code) == (3, 3)
    assert people.stdout.splitlines() == [
        "stopped",
        "cut at the deadline and marked, continue with their next message: 1 (api:default:a)",
        "cut conversations without a session: 1",
        f"cut 3 times in a row: 1 (api:default:b): the next message starts fresh; {BACK}",
    ]
    assert json.loads(machines.stdout) == CUT


def test_a_long_list_of_cut_sessions_is_shortened() -> None:
    keys = [f"api:default:{number:04}" for number in range(1000)]

    told = outcome(made(Drained, {**CUT, "marked": 1501, "cut": keys}), 3)

    assert "1500 (api:default:0000, " in told
    assert "api:default:0019, and 1480 more)" in told


def test_a_session_that_was_cut_too_often_does_not_go_on() -> None:
    stuck = {**DONE, "marked": 1, "cut": ["api:default:b"], "suspended": ["api:default:b"]}

    assert outcome(made(Drained, {**stuck, "then": "restart"}), 5).splitlines() == [
        "restarted",
        f"cut 5 times in a row: 1 (api:default:b): the next message starts fresh; {BACK}",
    ]
    assert "the next message will start fresh after the next restart" in outcome(
        made(Drained, {**stuck, "then": "hold"}), 3
    )


def test_a_worker_that_had_to_be_killed_is_told_and_does_not_pass_for_an_end_without_cuts(
    home: Home, draining: Callable[..., Draining]
) -> None:
    draining({**DONE, "silent": [0, 2]})

    told = run(home, "drain")

    assert told.exit_code == 3
    assert "all turns finished" not in told.stdout
    assert "workers 0, 2 died or did not answer" in told.stdout


def test_what_a_silent_worker_runs_does_not_pass_for_nothing() -> None:
    line = summary(made(DrainShown, {**STATUS, "turns": [], "count": 0, "queued": 0, "missing": [1]}))

    assert "no turn runs, no answer from worker 1" in line


def test_a_restart_that_a_stop_overtook_says_so_and_fails(home: Home, draining: Callable[..., Draining]) -> None:
    draining({**CUT, "then": "stop"})
    why = "The gateway was stopped, not restarted: a stronger drain was requested"

    people, machines = run(home, "restart"), run(home, "drain", "--restart", "--json")

    assert (people.exit_code, machines.exit_code) == (1, 1)
    assert people.stdout.startswith("stopped\n")
    assert why in people.stderr
    assert json.loads(machines.stdout) == {"error": {"code": "overruled", "why": why}}


def test_a_restart_returns_when_the_next_supervisor_serves(home: Home, draining: Callable[..., Draining]) -> None:
    draining({**DONE, "then": "restart"})

    told = run(home, "restart", "--json")

    assert told.exit_code == 0
    assert json.loads(told.stdout) == {**DONE, "then": "restart", "boot": "two", "pid": 7, "version": "9"}


def test_a_restart_after_which_nobody_serves_fails(
    home: Home, draining: Callable[..., Draining], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SUCCESSOR_S", 0.05)
    fake = draining({**DONE, "then": "restart"})
    fake.boot = "two"  # as it goes on to be

    told = run(home, "drain", "--restart", "--json")

    assert told.exit_code == 1
    assert "no new supervisor serves" in json.loads(told.stdout)["error"]["why"]


def test_a_drain_returns_only_when_the_home_is_free(
    home: Home,
    draining: Callable[..., Draining],
    hold_lock: Callable[[], Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "END_S", 0.05)
    hold_lock()
    draining()

    told = run(home, "drain")

    assert told.exit_code == 1
    assert "drained, but not ended" in told.stderr


def test_a_drain_that_is_cancelled_meanwhile_fails_with_the_supervisors_words(home: Home, supervisor: Start) -> None:
    def cancelled(connection: socket.socket, request: OperatorRequest) -> None:
        error = "cancelled" if request.operation == "drain" else None
        answer(connection, request, {"boot": "one"}, error, "an operator cancelled the drain")

    supervisor(cancelled)

    told = run(home, "drain", "--json")

    assert told.exit_code == 1
    assert json.loads(told.stdout)["error"] == {"code": "cancelled", "why": "an operator cancelled the drain"}


def test_a_supervisor_that_dies_in_the_drain_is_no_end_in_order(home: Home, supervisor: Start) -> None:
    def die(connection: socket.socket, request: OperatorRequest) -> None:
        if request.operation == "drain":
            connection.shutdown(socket.SHUT_RDWR)
        else:
            answer(connection, request, {"boot": "one"})

    supervisor(die)

    told = run(home, "drain", "--json")

    assert told.exit_code == 1
    assert json.loads(told.stdout)["error"]["code"] == "ended"
    assert "hermes-ctl ledger show" in told.stderr


class Vanishing:
    """A supervisor that restarts, or ends, and answers no drain any more."""

    def __init__(self, *, restarts: bool, in_place: bool = True) -> None:
        self.boot = "one"
        self._in_place = in_place
        self._restarts = restarts

    def __call__(self, connection: socket.socket, request: OperatorRequest) -> None:
        if request.operation == "drain":
            self.boot = "two" if self._restarts else "one"
            connection.shutdown(socket.SHUT_RDWR)
        else:
            pid = 7 if self._in_place or self.boot == "one" else 8
            answer(connection, request, {"boot": self.boot, "pid": pid, "version": "9", "phase": "serving"})


def test_a_restart_that_came_before_its_answer_is_a_restart(home: Home, supervisor: Start) -> None:
    fake = Vanishing(restarts=True)
    supervisor(fake)

    people = run(home, "restart")
    fake.boot = "one"
    machines = run(home, "drain", "--restart", "--json")

    assert (people.exit_code, machines.exit_code) == (0, 0)
    assert people.stdout.splitlines() == [
        "restarted",
        "the supervisor ended before it reported the cut sessions; see: hermes-ctl ledger show",
    ]
    unsaid = dict.fromkeys(("marked", "cut", "stateless", "waiting", "silent", "suspended", "took_s"))
    assert json.loads(machines.stdout) == {**unsaid, "then": "restart", "boot": "two", "pid": 7, "version": "9"}


def test_a_supervisor_that_is_killed_in_a_restart_and_started_by_somebody_is_no_end_in_order(
    home: Home, supervisor: Start
) -> None:
    supervisor(Vanishing(restarts=True, in_place=False))

    told = run(home, "restart", "--json")

    assert told.exit_code == 1
    assert json.loads(told.stdout)["error"]["code"] == "ended"
    assert "(pid 8)" in told.stderr


def test_a_restart_without_an_answer_after_which_nobody_else_serves_fails(
    home: Home, supervisor: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SUCCESSOR_S", 0.05)
    supervisor(Vanishing(restarts=False))

    told = run(home, "restart", "--json")

    assert told.exit_code == 1
    assert json.loads(told.stdout)["error"]["code"] == "ended"


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({**STATUS, "then": None, "left_s": None}, id="not begun"),
        pytest.param({**STATUS, "left_s": 0.0}, id="past its deadline"),
        pytest.param({**STATUS, "left_s": 0.01}, id="nearly"),
        pytest.param(None, id="busy"),
    ],
)
def test_the_wait_is_bounded_where_the_supervisor_says_no_end(
    home: Home, supervisor: Start, monkeypatch: pytest.MonkeyPatch, status: dict[str, Any] | None
) -> None:
    monkeypatch.setattr(command, "BEGIN_S", 0.05)
    monkeypatch.setattr(command, "MARGIN_S", 0.05)
    looks = 0

    def silent(connection: socket.socket, request: OperatorRequest) -> None:
        nonlocal looks
        match request.operation:
            case "status":
                answer(connection, request, {"boot": "one"})
            case "drain.status":
                looks += 1
                told = status if status is None or looks < 5 else {**status, "left_s": 0.0}
                answer(connection, request, told or {}, "busy" if told is None else None)

    supervisor(silent)

    told = run(home, "drain", "--json")

    assert (told.exit_code, json.loads(told.stdout)["error"]["code"]) == (1, "timeout")


# -- while it waits ---------------------------------------------------------------------------------------------------


def test_a_terminal_shows_what_still_runs_since_when_and_the_time_left(
    home: Home, draining: Callable[..., Draining]
) -> None:
    fake = draining(waits=True)

    with at_terminal(ctl_line("drain", "--home", str(home.root)), COLUMNS="120") as terminal:
        terminal.wait_for("draining: 2 turns run, 3 wait for afterwards, 41 s left")
        terminal.wait_for("api:default:cli")
        terminal.wait_for("2 h")
        terminal.wait_for("(no session)")
        fake.over.set()
        assert terminal.end() == 0

    assert "all turns finished" in terminal.shown


def test_ctrl_c_lets_go_of_a_drain_without_cancelling_it(home: Home, draining: Callable[..., Draining]) -> None:
    fake = draining(waits=True)

    with at_terminal(ctl_line("drain", "--home", str(home.root))) as terminal:
        terminal.wait_for("41 s left")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 1

    assert "No longer waiting; the drain continues." in terminal.shown
    assert "Cancel: hermes-ctl drain --cancel" in " ".join(terminal.shown.split())
    assert len(fake.asked) == 1


def test_machines_get_nothing_but_the_end(home: Home, draining: Callable[..., Draining]) -> None:
    draining(until_looked_at=True)

    told = piped(ctl_line("drain", "--json", "--home", str(home.root)))

    assert (told.returncode, json.loads(told.stdout), told.stderr) == (0, DONE, "")


def test_without_a_terminal_a_line_tells_how_far_it_is(home: Home, draining: Callable[..., Draining]) -> None:
    draining(until_looked_at=True)

    told = piped(ctl_line("drain", "--home", str(home.root)))

    assert told.stderr == "draining: 2 turns run, 3 wait for afterwards, 41 s left\n"
    assert told.stdout.startswith("stopped\n")


def test_lines_come_for_changes_alone_and_not_more_often_than_bearable() -> None:
    now, lines = 0.0, list[str]()
    shown = Lines(lines.append, clock=lambda: now)

    shown.show(made(DrainShown, STATUS))
    now = LINE_INTERVAL_S / 2
    shown.show(made(DrainShown, {**STATUS, "count": 1}))
    assert len(lines) == 1
    now = LINE_INTERVAL_S
    shown.show(made(DrainShown, {**STATUS, "left_s": 5}))
    assert len(lines) == 1
    shown.show(made(DrainShown, {**STATUS, "count": 1, "queued": 0, "left_s": 36.4}))

    assert lines[1:] == ["draining: 1 turn runs, 36 s left"]


def test_before_a_drain_has_begun_no_turn_is_told_of_but_that_it_is_prepared() -> None:
    lines, before = list[str](), {**STATUS, "phase": "serving", "preparing": True, "then": None, "left_s": None}
    screen = console()
    with screen.capture() as captured:
        screen.print(running(made(DrainShown, before), NOW))
    shown = Lines(lines.append)
    shown.show(made(DrainShown, before))
    shown.show(made(DrainShown, before))
    shown.show(made(DrainShown, STATUS))

    prepared = "preparing the new start; nothing drains yet"
    assert captured.get() == f"{prepared}\n"
    assert lines == [prepared, "draining: 2 turns run, 3 wait for afterwards, 41 s left"]


def test_more_turns_than_fit_are_counted() -> None:
    screen = console()
    with screen.capture() as captured:
        screen.print(running(made(DrainShown, {**STATUS, "turns": [TURN] * 25, "count": 300}), NOW))

    assert captured.get().count("api:default:cli") == 10
    assert "and 290 more" in captured.get()


def test_the_key_of_a_session_cannot_command_the_terminal() -> None:
    screen = console()
    with screen.capture() as captured:
        screen.print(running(made(DrainShown, {**STATUS, "turns": [{**TURN, "key": "\x1b[2J[red]"}]}), NOW))

    assert "\\x1b[2J[red]" in captured.get()
    assert "\x1b[2J" not in outcome(made(Drained, {**CUT, "cut": ["\x1b[2J", "b"]}), 3)


# -- from inside a turn -----------------------------------------------------------------------------------------------


def test_a_tool_that_drains_its_own_gateway_names_its_session_and_does_not_wait(
    home: Home, draining: Callable[..., Draining], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = draining(waits=True)
    monkeypatch.setenv("HERMES_ACTORS_HOME", str(home.root))
    monkeypatch.setenv("HERMES_ACTORS_SESSION", "api:default:cli")

    people = run(home, "restart")
    machines = run(home, "drain", "--json")

    assert (people.exit_code, machines.exit_code) == (0, 0)
    assert people.stdout == "the drain starts; it does not wait for the turn that requested it\n"
    assert json.loads(machines.stdout) == {"begun": True}
    assert [asked["asker"] for asked in fake.asked] == ["api:default:cli"] * 2


def test_a_refusal_reaches_the_tool_that_asked(home: Home, supervisor: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_ACTORS_HOME", str(home.root))
    monkeypatch.setenv("HERMES_ACTORS_SESSION", "api:default:cli")

    def refuse(connection: socket.socket, request: OperatorRequest) -> None:
        refused = ("configuration", "agent.max_turn: unknown key") if request.operation == "drain" else ()
        answer(connection, request, {"boot": "one", "phase": "serving"}, *refused)

    supervisor(refuse)

    told = run(home, "restart")

    assert told.exit_code == 78
    assert "agent.max_turn: unknown key" in told.stderr


def test_a_tool_of_another_gateway_is_nobody_here(
    home: Home, draining: Callable[..., Draining], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = draining()
    monkeypatch.setenv("HERMES_ACTORS_HOME", f"{home.root}-other")
    monkeypatch.setenv("HERMES_ACTORS_SESSION", "api:default:cli")

    assert run(home, "drain").stdout.startswith("stopped\n")
    assert fake.asked[0].get("asker") is None


def test_a_home_by_another_name_is_the_same_home(home: Home, tmp_path: Any) -> None:
    link = tmp_path / "link"
    link.symlink_to(home.root)
    environ = {"HERMES_ACTORS_HOME": str(link), "HERMES_ACTORS_SESSION": "api:default:cli"}

    assert command.asking_session(home, environ) == "api:default:cli"
    assert command.asking_session(home, {"HERMES_ACTORS_HOME": str(link)}) is None


# -- the plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_says_who_would_finish_and_who_would_be_cut(home: Home, supervisor: Start) -> None:
    fake = supervisor(answering({"drain.plan": PLAN}))

    people, machines = run(home, "drain", "--plan", "--timeout", "60"), run(home, "drain", "--plan", "--json")

    assert (people.exit_code, people.stderr) == (0, "worker 1 gave no answer\n")
    head, _, _, _, cut, finishes = people.stdout.splitlines()
    assert head == "with 1 min: 1 would finish, 1 would be cut, 2 wait and run afterwards"
    for text in ("api:default:cli", "1 min", "5 min", "is cut", "2, would be suspended"):
        assert text in cut
    for text in ("api:default:b", "2 s", "4 s", "finishes", "0"):
        assert text in finishes
    lines = [{name: value for name, value in turn.items() if name != "started_at"} for turn in PLAN["turns"]]
    assert json.loads(machines.stdout) == {**PLAN, "turns": lines}
    assert [request.arguments for request in fake.requests] == [{"timeout": 60.0}, {}]


def test_a_usual_time_below_a_second_is_not_none_at_all() -> None:
    screen = console()
    with screen.capture() as captured:
        screen.print(plan(made(DrainPlanned, {**PLAN, "turns": [{**PLAN["turns"][0], "usual_s": 0.02}]})))

    assert "<1 s" in captured.get()


def test_a_plan_of_nothing_says_so() -> None:
    screen = console()
    with screen.capture() as captured:
        screen.print(plan(made(DrainPlanned, {"timeout_s": 0.0})))

    assert captured.get() == "with 0 s: nothing runs\n"


# -- stop -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "timeout"), [((), None), (("--now",), 0.0)])
def test_a_stop_waits_until_the_supervisor_is_gone_and_says_whom_it_cut(
    home: Home, draining: Callable[..., Draining], flags: tuple[str, ...], timeout: float | None
) -> None:
    fake = draining({**CUT, "waiting": 1})

    people, machines = run(home, "stop", *flags), run(home, "stop", *flags, "--json")

    assert (people.exit_code, machines.exit_code) == (0, 0)
    assert people.stdout.startswith("stopped\ncut at the deadline and marked")
    assert "messages waiting in 1 session are kept" in people.stdout
    assert fake.asked == [to_plain(BeginDrain(timeout=timeout))] * 2
    assert json.loads(machines.stdout) == {"stopped": True, **CUT, "waiting": 1}


def test_a_stop_of_a_supervisor_that_dies_meanwhile_is_done_and_says_what_is_not_known(
    home: Home, supervisor: Start
) -> None:
    supervisor(Vanishing(restarts=False))

    stopped = run(home, "stop")

    assert (stopped.exit_code, stopped.stdout.splitlines()) == (
        0,
        ["stopped", "the supervisor ended before it reported the cut sessions; see: hermes-ctl ledger show"],
    )


def test_a_stop_that_takes_longer_than_it_may_fails_and_says_that_it_goes_on(
    home: Home, draining: Callable[..., Draining]
) -> None:
    draining(waits=True)

    stopped = run(home, "stop", "--timeout", "0.05")

    assert stopped.exit_code == 1
    assert "it is still stopping" in stopped.stderr


def test_a_stop_shows_what_it_waits_for(home: Home, draining: Callable[..., Draining]) -> None:
    fake = draining(waits=True)

    with at_terminal(ctl_line("stop", "--home", str(home.root)), COLUMNS="120") as terminal:
        terminal.wait_for("2 turns run")
        fake.over.set()
        assert terminal.end() == 0
