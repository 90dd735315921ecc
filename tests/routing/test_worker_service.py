"""A whole worker in this process, told by a supervisor at the other end of a socket pair."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from fakes.sessions import BOUND_S, until
from fakes.virtual_time import time_passes
from structlog.testing import capture_logs

from hermes_actors import logs
from hermes_actors.config.model import from_plain, to_plain
from hermes_actors.home import Home
from hermes_actors.operations.plain import Misfit
from hermes_actors.wire.caused import CausedLink
from hermes_actors.wire.codec import ProtocolError
from hermes_actors.wire.messages import (
    Activate,
    Activated,
    Assign,
    Attest,
    Configure,
    Cut,
    Drain,
    DrainOver,
    Heartbeat,
    Listen,
    NoTurnRuns,
    Opened,
    Query,
    QueryResponse,
    Ready,
    Reckoned,
    Reconfigure,
    Recorded,
    Recovered,
    Refused,
    RestartWanted,
    Seal,
    Sealed,
    ShardBroken,
    StopWorker,
    Succeeded,
    WorkerSettings,
)
from hermes_actors.wire.records import CutTurn, Interrupted
from hermes_actors.wire.refusals import RefusalCode
from hermes_actors.wire.sharding import shard_of
from workers import main
from workers.duties import REOPEN_INTERVAL_S
from workers.ingress.http.server import HttpIngress
from workers.main import EXIT_FAILED, EXIT_ORPHANED, EXIT_STOPPED, Service
from workers.store.journal import Journal
from workers.store.shard import StoreFailed
from workers.store.sqlite import SqliteShard, open_shard
from workers.turns import Ended, Origin, Parked, Refusal, Submission
from workers.worker import Worker

KEY = "api:default:a"


class Supervisor:
    """The other end: what the worker said, by kind; sessions are activated as they come."""

    def __init__(self, home: Path, sock: socket.socket, service: Service) -> None:
        self.home = home
        self.service = service
        self.heard: list[Any] = []
        self.resume: Interrupted | None = None  # the mark of all sessions
        self.auto_resume = True
        self.answers_recoveries = True
        self.refuses_activations = False
        self.running: asyncio.Task[int]
        self.link = CausedLink(self._received, lambda _: None)
        self._sock = sock

    async def start(self, worker_sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self.link, sock=self._sock)
        await loop.create_connection(lambda: self.service.link, sock=worker_sock)
        self.running = asyncio.create_task(self.service.run())

    def _received(self, message: Any) -> None:
        self.heard.append(message)
        match message:
            case Activate() if self.refuses_activations:
                self.say(Refused(request=message.request, code=RefusalCode.STALE_FENCE, why="no time"))
            case Activate(create=False):
                self.say(Refused(request=message.request, code=RefusalCode.NOT_FOUND, why="it was never made"))
            case Activate():
                self.say(self.activated(message))
            case Opened():
                self.say(Reckoned(request=message.request, since=message.found.turn, lost=None))
            case Attest():
                self.say(Reckoned(request=message.request, since=None, lost=None))
            case Recovered() if not self.answers_recoveries:
                pass
            case Recovered() | Succeeded():
                self.say(Recorded(request=message.request))

    def activated(self, message: Activate) -> Activated:
        return Activated(
            request=message.request,
            session_id=f"ses_{message.key}",
            created_at=0.0,
            resume=self.resume,
            fresh=None,
            strikes=0,
        )

    def say(self, *messages: Any) -> None:
        for message in messages:
            self.link.send(message)

    def configure(self, **config: Any) -> Configure:
        plain = {"model": {"provider": "demo"}, "supervisor": {"heartbeat_seconds": 0.5}, **config}
        return Configure(
            boot="boot",
            slot=0,
            generation=1,
            shards=2,
            auto_resume=self.auto_resume,
            home=str(self.home),
            settings=WorkerSettings(config=to_plain(from_plain(plain)), environment={}, api_keys={"default": "secret"}),
        )

    async def serve(self) -> None:
        """The worker owns both shards and is ready."""
        self.say(self.configure(), Assign(owners={0: [0, 1], 1: [0, 1]}, up=[0]))
        await self.until_heard(Ready)

    async def until_heard(self, kind: type[Any]) -> Any:
        await until(lambda: any(isinstance(message, kind) for message in self.heard))
        return next(message for message in self.heard if isinstance(message, kind))

    async def exit_code(self) -> int:
        async with asyncio.timeout(BOUND_S):
            return await self.running

    @property
    def worker(self) -> Worker:
        assert self.service._worker is not None
        return self.service._worker


@pytest.fixture
async def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    monkeypatch.setattr(logs, "configure", lambda **_: None)  # the test's own are kept
    home = Home(tmp_path)
    home.make()
    ours, theirs = socket.socketpair()
    orphaned: list[int] = []
    service = Service({}, lambda: orphaned.append(1))
    made = Supervisor(home.root, ours, service)
    await made.start(theirs)
    try:
        yield made
    finally:
        made.link.close()
        made.running.cancel()
        await asyncio.wait((made.running,))
        if service._worker is not None:
            await service._worker.stop("crash")  # what a failed test leaves open would hold up the loop's end
    await until(lambda: orphaned == [1])


def message(text: str) -> Submission:
    return Submission(
        turn_id=f"turn_{text}",
        key=KEY,
        principal="default",
        stateless=False,
        messages=[orjson.dumps({"role": "user", "content": text})],
        parameters={},
        idempotency_key=None,
        fingerprint=b"",
        origin=Origin(ingress="http", request_id=""),
    )


async def turn(supervisor: Supervisor, text: str) -> Any:
    return await supervisor.worker._router.submit(message(text), stream=False)


async def end_of(accepted: Any) -> Ended:
    async with asyncio.timeout(BOUND_S):
        events = [event async for event in accepted]
    assert isinstance(events[-1], Ended)
    return events[-1]


async def states_on_disk(home: Path) -> dict[str, str]:
    """What the next owner would find."""
    journal = Journal()
    found: dict[str, str] = {}
    for number in range(2):
        path = Home(home).shards / f"{number:02d}.db"
        opened = await open_shard(journal, path, shard=number, fence=9, durability="process")
        for name in ("turn_sleep 60", "turn_hello"):
            if (row := await opened.store.turn(name)) is not None:
                found[name] = row.state
        await opened.store.close()
    await journal.close()
    return found


async def test_a_configured_worker_with_its_shards_is_ready_and_beats(supervisor: Supervisor) -> None:
    await supervisor.serve()

    beat = await supervisor.until_heard(Heartbeat)

    assert (beat.load.running, beat.load.queued) == (0, 0)
    assert (await end_of(await turn(supervisor, "hello"))).text == "You said: hello"


async def test_a_worker_that_is_told_to_stop_ends_in_order(supervisor: Supervisor) -> None:
    await supervisor.serve()
    assert (await end_of(await turn(supervisor, "hello"))).state == "completed"

    supervisor.say(StopWorker())

    assert await supervisor.exit_code() == EXIT_STOPPED
    assert await states_on_disk(supervisor.home) == {"turn_hello": "completed"}


async def test_a_worker_that_was_never_configured_can_be_stopped(supervisor: Supervisor) -> None:
    supervisor.say(StopWorker())

    assert await supervisor.exit_code() == EXIT_STOPPED


async def test_a_stop_waits_for_no_turn_and_a_second_one_changes_nothing(supervisor: Supervisor) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "sleep 60")

    supervisor.say(StopWorker(), Listen(slots=[]), StopWorker())

    assert await supervisor.exit_code() == EXIT_STOPPED
    assert (await end_of(accepted)).state == "interrupted"
    assert await states_on_disk(supervisor.home) == {"turn_sleep 60": "running"}  # for its next owner to tell


async def obeys_for_ever(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until an order has begun that has no end."""
    begun = asyncio.Event()

    async def never(_: Worker, __: Assign) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Worker, "assign", never)
    supervisor.say(Assign(owners={}, up=[]))
    await asyncio.wait_for(begun.wait(), BOUND_S)


@pytest.fixture
def patient(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """A worker whose stop takes until this is set."""
    over = asyncio.Event()
    close = HttpIngress.close

    async def slowly(ingress: HttpIngress, grace_s: float) -> None:
        await over.wait()
        await close(ingress, grace_s)

    monkeypatch.setattr(HttpIngress, "close", slowly)
    return over


async def test_an_operator_is_answered_during_a_stop(supervisor: Supervisor, patient: asyncio.Event) -> None:
    await supervisor.serve()
    await turn(supervisor, "sleep 60")
    supervisor.say(StopWorker(), query(7, "session", key=KEY))

    answer = await supervisor.until_heard(QueryResponse)

    assert (answer.request, answer.found, answer.data["turns"]["running"]) == (7, True, 1)
    supervisor.say(query(8, "session", key="api:default:unknown"))
    await until(lambda: any(isinstance(told, QueryResponse) and not told.found for told in supervisor.heard))
    patient.set()
    assert await supervisor.exit_code() == EXIT_STOPPED


async def test_a_question_that_a_worker_does_not_know_is_a_clear_error() -> None:
    with pytest.raises(Misfit, match="unknown request 'the weather'"):
        await Worker.answer(object.__new__(Worker), query(1, "the weather"))


async def test_a_worker_without_a_supervisor_leaves_what_runs_to_be_told_by_its_next_owner_and_ends(
    supervisor: Supervisor,
) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "sleep 60")

    supervisor.link.close()

    assert await supervisor.exit_code() == EXIT_ORPHANED
    assert (await end_of(accepted)).state == "interrupted"
    assert await states_on_disk(supervisor.home) == {"turn_sleep 60": "running"}


async def test_a_worker_that_loses_its_supervisor_before_it_knows_who_it_is_ends(supervisor: Supervisor) -> None:
    supervisor.link.close()

    assert await supervisor.exit_code() == EXIT_ORPHANED


async def test_a_worker_that_loses_its_supervisor_while_it_stops_ends_in_time(
    supervisor: Supervisor, patient: asyncio.Event
) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "sleep 60")
    supervisor.say(StopWorker())
    await until(lambda: not supervisor.worker._router.serving)

    supervisor.link.close()

    assert await supervisor.exit_code() == EXIT_ORPHANED
    assert (await end_of(accepted)).state == "interrupted"
    patient.set()


async def test_a_long_order_does_not_keep_an_orphan_alive(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "sleep 60")
    await obeys_for_ever(supervisor, monkeypatch)

    supervisor.link.close()

    assert await supervisor.exit_code() == EXIT_ORPHANED
    assert (await end_of(accepted)).state == "interrupted"


async def test_an_orphan_ends_in_time_whatever_does_not(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await supervisor.serve()

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(supervisor.worker._ingress, "close", never)

        supervisor.link.close()

        assert await supervisor.exit_code() == EXIT_ORPHANED


@pytest.mark.parametrize(
    "orders",
    [
        lambda supervisor: [Assign(owners={}, up=[])],
        lambda supervisor: [supervisor.configure(), supervisor.configure()],
    ],
    ids=["not configured", "configured twice"],
)
async def test_a_worker_that_fails_by_a_bug_ends_with_its_own_exit_code(
    supervisor: Supervisor, orders: Callable[[Supervisor], list[Any]]
) -> None:
    supervisor.say(*orders(supervisor))

    assert await supervisor.exit_code() == EXIT_FAILED


async def test_what_no_supervisor_says_ends_the_link(supervisor: Supervisor) -> None:
    supervisor.say(QueryResponse(request=1, found=True, data={}))

    assert await supervisor.exit_code() == EXIT_ORPHANED


async def test_orders_without_end_are_not_kept() -> None:
    service = Service({}, lambda: None)
    for _ in range(main.MAX_ORDERS):
        service._received(Listen(slots=[]))

    with pytest.raises(ProtocolError, match="orders ahead"):
        service._received(Listen(slots=[]))


async def test_nothing_is_raised_towards_a_supervisor_that_is_gone(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    (supervisor.home / "state" / "shards" / "01.db").mkdir()
    supervisor.say(supervisor.configure(), Assign(owners={0: [0, 1], 1: [0, 1]}, up=[]))
    await until(lambda: supervisor.service._worker is not None)

    supervisor.service.link._abort("broken")  # the loss is told in the loop's next round

    assert await supervisor.exit_code() == EXIT_ORPHANED
    assert not any(isinstance(message, ShardBroken) for message in supervisor.heard)
    assert "never retrieved" not in caplog.text


def test_an_orphan_that_hangs_is_ended_by_the_kernel() -> None:
    program = "from workers import main; main.ORPHAN_KILLED_S = 0.05; main.be_killed_soon()\nwhile True: pass"

    ended = subprocess.run([sys.executable, "-c", program], timeout=BOUND_S * 4, check=False)

    assert ended.returncode == -signal.SIGALRM


# -- what an earlier owner left -----------------------------------------------------------------------------------


async def left_waiting(supervisor: Supervisor, text: str) -> str:
    """A turn that an earlier owner admitted and never began, in the file of its shard."""
    number = shard_of(KEY, 2)
    journal = Journal()
    path = Home(supervisor.home).shards / f"{number:02d}.db"
    opened = await open_shard(journal, path, shard=number, fence=0, durability="process")
    await opened.store.admit(message(text), f"ses_{KEY}", "queued")
    await opened.store.close()
    await journal.close()
    return f"turn_{text}"


async def test_a_waiting_turn_of_an_earlier_owner_is_told_then_begun(supervisor: Supervisor) -> None:
    await left_waiting(supervisor, "hello")

    await supervisor.serve()

    assert [told.queued for told in supervisor.heard if isinstance(told, Recovered) and told.queued] == [[KEY]]
    await supervisor.until_heard(Activate)


async def test_a_waiting_turn_whose_session_could_not_be_activated_is_begun_soon(supervisor: Supervisor) -> None:
    supervisor.refuses_activations = True
    await left_waiting(supervisor, "hello")
    await supervisor.serve()
    await supervisor.until_heard(Activate)

    supervisor.refuses_activations = False

    await until(lambda: supervisor.worker._sessions.turns_ended == 1)


async def test_an_end_that_could_not_be_stored_is_stored_soon(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await supervisor.serve()
    store = supervisor.worker._table.open[shard_of(KEY, 2)].store

    async def failing(*_: Any, **__: Any) -> None:
        raise StoreFailed("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(SqliteShard, "finish", failing)
        told = await end_of(await turn(supervisor, "hello"))
    assert told.state == "failed"

    async with asyncio.timeout(BOUND_S):
        while await store.unfinished():
            await time_passes(REOPEN_INTERVAL_S)


async def test_in_a_chain_of_young_deaths_it_is_begun_with_its_sessions_next_message(supervisor: Supervisor) -> None:
    supervisor.auto_resume = False
    await left_waiting(supervisor, "hello")

    await supervisor.serve()
    supervisor.say(query(1, "mcp"))
    await supervisor.until_heard(QueryResponse)
    assert not any(isinstance(told, Activate) for told in supervisor.heard)

    assert (await end_of(await turn(supervisor, "next"))).text == "You said: next"
    supervisor.link.close()
    await supervisor.exit_code()
    assert await states_on_disk(supervisor.home) == {"turn_hello": "completed"}


async def test_in_a_chain_of_young_deaths_it_is_begun_once_the_worker_has_lived_a_minute(
    supervisor: Supervisor,
) -> None:
    supervisor.auto_resume = False
    await left_waiting(supervisor, "hello")

    with capture_logs() as logged:
        await supervisor.serve()
        await until(lambda: any(isinstance(told, Heartbeat) and told.load.queued == 1 for told in supervisor.heard))
        await until(lambda: supervisor.worker._sessions.turns_ended == 1)

    lines = [(line["log_level"], line["event"]) for line in logged if line.get("turns") == 1]
    assert lines == [
        ("warning", "processes of this worker died young: it begins the waiting turns later"),
        ("info", "the worker begins the turns that waited since its start"),
    ]
    assert not supervisor.worker._sessions.backlog


async def test_in_a_chain_of_young_deaths_it_is_begun_after_a_drain_and_not_during_it(supervisor: Supervisor) -> None:
    supervisor.auto_resume = False
    await left_waiting(supervisor, "hello")
    supervisor.say(supervisor.configure(), drain(), Assign(owners={0: [0, 1], 1: [0, 1]}, up=[0]))
    await supervisor.until_heard(Ready)
    await until(lambda: supervisor.worker._duties._auto_resume)
    assert supervisor.worker._sessions.waiting == 1

    supervisor.say(DrainOver())

    await until(lambda: supervisor.worker._sessions.turns_ended == 1)


async def test_a_shard_opens_only_when_its_recovery_is_recorded(supervisor: Supervisor) -> None:
    supervisor.answers_recoveries = False
    supervisor.say(supervisor.configure(), Assign(owners={0: [0, 1], 1: [0, 1]}, up=[]))
    asked = await supervisor.until_heard(Recovered)

    assert (asked.fence, asked.cut, asked.queued) == (1, [], [])
    assert not any(isinstance(told, Ready) for told in supervisor.heard)
    await until(lambda: sum(isinstance(told, Recovered) for told in supervisor.heard) == 2)
    supervisor.say(*(Recorded(request=told.request) for told in supervisor.heard if isinstance(told, Recovered)))
    await supervisor.until_heard(Ready)


async def test_a_shard_whose_recovery_was_not_recorded_is_tried_again(supervisor: Supervisor) -> None:
    supervisor.answers_recoveries = False
    supervisor.say(supervisor.configure(), Assign(owners={0: [0, 1], 1: [0, 1]}, up=[]))
    await supervisor.until_heard(ShardBroken)

    supervisor.answers_recoveries = True

    await until(lambda: not supervisor.worker._shards.missing)


async def test_a_success_in_a_marked_session_is_told_to_the_supervisor(supervisor: Supervisor) -> None:
    supervisor.resume = Interrupted("crash", 0.0)
    await supervisor.serve()

    ended = await end_of(await turn(supervisor, "hello"))

    (told,) = [told for told in supervisor.heard if isinstance(told, Succeeded)]
    assert (told.key, told.turn_id, told.shard, told.fence) == (KEY, ended.turn_id, shard_of(KEY, 2), 1)


# -- drain --------------------------------------------------------------------------------------------------------


def query(request: int, operation: str, **arguments: str) -> Query:
    return Query(request=request, operation=operation, arguments=arguments)


def drain(*, asker: str | None = None) -> Drain:
    return Drain(number=1, reason="restart_timeout", then="restart", deadline=time.time() + 60.0, asker=asker)


async def test_a_drain_ends_readiness_first_and_is_told_as_over_when_no_turn_runs(supervisor: Supervisor) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "sleep 0.1")
    assert supervisor.worker._router.ready

    supervisor.say(drain())
    await until(lambda: supervisor.worker._router.draining)

    assert not supervisor.worker._router.ready
    with pytest.raises(Refusal) as refusal:
        await turn(supervisor, "new")
    assert refusal.value.code == "gateway_draining"
    await supervisor.until_heard(NoTurnRuns)
    assert (await end_of(accepted)).state == "completed"


async def test_a_worker_that_starts_during_a_drain_begins_nothing(supervisor: Supervisor) -> None:
    supervisor.say(supervisor.configure(), drain(), Assign(owners={0: [0, 1], 1: [0, 1]}, up=[0]))

    await supervisor.until_heard(Ready)

    await supervisor.until_heard(NoTurnRuns)
    assert not supervisor.worker._router.ready
    with pytest.raises(Refusal):
        await turn(supervisor, "new")


async def test_a_drain_that_was_cancelled_before_the_worker_was_made_is_none(supervisor: Supervisor) -> None:
    supervisor.say(supervisor.configure(), drain(), DrainOver())
    supervisor.say(Assign(owners={0: [0, 1], 1: [0, 1]}, up=[0]))
    await supervisor.until_heard(Ready)

    assert (await end_of(await turn(supervisor, "hello"))).state == "completed"


async def test_what_is_sealed_is_cut_durably_and_the_worker_goes_on(supervisor: Supervisor) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "sleep 60")
    supervisor.say(drain(), Seal(request=3))

    sealed = await supervisor.until_heard(Sealed)
    supervisor.say(Cut(reason="restart_timeout", at=1.0))

    assert sealed == Sealed(request=3, cut=[CutTurn(KEY, "turn_sleep 60", f"ses_{KEY}")], busy=[], stateless=0)
    assert (await end_of(accepted)).state == "interrupted"
    assert not any(isinstance(told, NoTurnRuns) for told in supervisor.heard)
    supervisor.say(DrainOver())
    await until(lambda: supervisor.worker._router.ready)
    assert (await end_of(await turn(supervisor, "hello"))).state == "completed"
    supervisor.say(StopWorker())
    assert await supervisor.exit_code() == EXIT_STOPPED
    assert await states_on_disk(supervisor.home) == {"turn_sleep 60": "interrupted", "turn_hello": "completed"}


async def test_a_worker_that_loses_its_supervisor_between_seal_and_cut_ends(supervisor: Supervisor) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "sleep 60")
    supervisor.say(drain(), Seal(request=3))
    await supervisor.until_heard(Sealed)

    supervisor.link.close()

    assert await supervisor.exit_code() == EXIT_ORPHANED
    assert (await end_of(accepted)).state == "interrupted"
    assert await states_on_disk(supervisor.home) == {"turn_sleep 60": "running"}


async def test_a_seal_is_answered_whatever_order_takes_long(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await supervisor.serve()
    await obeys_for_ever(supervisor, monkeypatch)

    supervisor.say(drain(), Seal(request=3))

    assert (await supervisor.until_heard(Sealed)).cut == []


async def test_a_worker_that_is_not_configured_yet_answers_the_supervisor(supervisor: Supervisor) -> None:
    supervisor.say(drain(), query(1, "running"), Seal(request=2), Cut(reason="crash", at=0.0))

    assert await supervisor.until_heard(QueryResponse) == QueryResponse(request=1, found=False, data={})
    assert await supervisor.until_heard(Sealed) == Sealed(request=2, cut=[], busy=[], stateless=0)


async def test_a_parked_message_runs_after_the_drain(supervisor: Supervisor) -> None:
    await supervisor.serve()
    supervisor.say(drain())
    await until(lambda: supervisor.worker._router.draining)
    parked = replace(message("hello"), park=True)
    with pytest.raises(Parked):
        await supervisor.worker._router.submit(parked, stream=False)

    supervisor.say(DrainOver())

    await until(lambda: supervisor.worker._sessions.turns_ended == 1)
    supervisor.say(StopWorker())
    assert await supervisor.exit_code() == EXIT_STOPPED
    assert await states_on_disk(supervisor.home) == {"turn_hello": "completed"}


async def test_what_an_earlier_owner_left_runs_when_the_drain_is_cancelled(supervisor: Supervisor) -> None:
    await left_waiting(supervisor, "hello")
    supervisor.say(supervisor.configure(), drain(), Assign(owners={0: [0, 1], 1: [0, 1]}, up=[0]))
    await supervisor.until_heard(Ready)
    assert supervisor.worker._sessions.waiting == 1

    supervisor.say(DrainOver())

    await until(lambda: supervisor.worker._sessions.turns_ended == 1)


async def test_an_operator_sees_stops_and_evicts_what_runs(supervisor: Supervisor) -> None:
    await supervisor.serve()
    await end_of(await turn(supervisor, "hello"))
    first = await turn(supervisor, "sleep 60")

    async def answer(request: int, operation: str, **arguments: Any) -> dict[str, Any]:
        supervisor.say(query(request, operation, **arguments))
        await until(
            lambda: any(isinstance(told, QueryResponse) and told.request == request for told in supervisor.heard)
        )
        return next(
            told.data for told in supervisor.heard if isinstance(told, QueryResponse) and told.request == request
        )

    told = await answer(1, "running")
    (runs,) = told["turns"]
    assert (runs["key"], runs["turn_id"], runs["stateless"], told["queued"]) == (KEY, "turn_sleep 60", False, 0)
    assert runs["usual_s"] is not None
    assert await answer(2, "stop_turn", key=KEY) == {"count": 1}
    assert await answer(3, "stop_turn", key=KEY) == {"count": 0}
    assert await answer(4, "stop_turn", key="api:default:unknown") == {"count": 0}
    assert (await end_of(first)).state == "cancelled"
    assert await answer(5, "evict", key=KEY) == {}
    assert supervisor.worker._sessions.resident == 0


async def test_an_administrators_message_asks_the_supervisor_for_a_restart(supervisor: Supervisor) -> None:
    await supervisor.serve()

    assert "going to restart" in (await end_of(await turn(supervisor, "/restart"))).text

    assert (await supervisor.until_heard(RestartWanted)).key == KEY
    settings = supervisor.configure(api_server={"admins": []}).settings
    supervisor.say(Reconfigure(request=1, settings=settings))
    await supervisor.until_heard(QueryResponse)
    assert "Only administrators" in (await end_of(await turn(supervisor, "/restart"))).text
