"""A whole worker in this process, told by a supervisor at the other end of a socket pair."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from fakes.cluster import until
from fakes.sessions import BOUND_S

from hermes_actors import logs
from hermes_actors.config.model import from_plain, to_plain
from hermes_actors.home import Home
from hermes_actors.wire.codec import ProtocolError
from hermes_actors.wire.link import FrameLink
from hermes_actors.wire.messages import (
    Activate,
    Activated,
    Answer,
    Assign,
    Configure,
    Heartbeat,
    Listen,
    Query,
    Ready,
    ShardBroken,
    Stop,
)
from workers import main
from workers.main import EXIT_FAILED, EXIT_ORPHANED, EXIT_STOPPED, Service
from workers.store.journal import Journal
from workers.store.sqlite import open_shard
from workers.turns import Ended, Submission
from workers.worker import Worker

KEY = "api:default:a"


class Supervisor:
    """The other end: what the worker said, by kind; sessions are activated as they come."""

    def __init__(self, home: Path, sock: socket.socket, service: Service) -> None:
        self.home = home
        self.service = service
        self.heard: list[Any] = []
        self.running: asyncio.Task[int]
        self.link = FrameLink(self._received, lambda _: None)
        self._sock = sock

    async def start(self, worker_sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self.link, sock=self._sock)
        await loop.create_connection(lambda: self.service.link, sock=worker_sock)
        self.running = asyncio.create_task(self.service.run())

    def _received(self, message: Any) -> None:
        self.heard.append(message)
        if isinstance(message, Activate):
            self.say(Activated(request=message.request, session_id=f"ses_{message.key}", created_at=0.0))

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
            home=str(self.home),
            config=to_plain(from_plain(plain)),
            environment={},
            api_keys={"default": "secret"},
        )

    async def serve(self) -> None:
        """The worker owns both shards and is ready."""
        self.say(self.configure(), Assign(owners={0: [0, 1], 1: [0, 1]}, peers={0: "own"}))
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
    yield made
    made.link.close()
    await made.exit_code()
    await until(lambda: orphaned == [1])


async def turn(supervisor: Supervisor, text: str) -> Any:
    message = Submission(
        turn_id=f"turn_{text}",
        key=KEY,
        principal="default",
        stateless=False,
        messages=[orjson.dumps({"role": "user", "content": text})],
        parameters={},
        idempotency_key=None,
        fingerprint=b"",
        origin={},
    )
    return await supervisor.worker._router.submit(message, stream=False)


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

    assert (beat.slot, beat.generation, beat.running, beat.queued) == (0, 1, 0, 0)
    assert (await end_of(await turn(supervisor, "hello"))).text == "You said: hello"


async def test_a_worker_that_is_told_to_stop_ends_in_order(supervisor: Supervisor) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "hello")

    supervisor.say(Stop(grace_s=BOUND_S))

    assert await supervisor.exit_code() == EXIT_STOPPED
    assert (await end_of(accepted)).state == "completed"
    assert await states_on_disk(supervisor.home) == {"turn_hello": "completed"}


async def test_a_worker_that_was_never_configured_can_be_stopped(supervisor: Supervisor) -> None:
    supervisor.say(Stop(grace_s=0.0))

    assert await supervisor.exit_code() == EXIT_STOPPED


async def test_a_second_stop_cuts_the_grace_short(supervisor: Supervisor) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "sleep 60")

    supervisor.say(Stop(grace_s=3600.0), Listen(slots=[]), Stop(grace_s=3600.0))

    assert await supervisor.exit_code() == EXIT_STOPPED
    assert (await end_of(accepted)).state == "interrupted"
    assert await states_on_disk(supervisor.home) == {"turn_sleep 60": "interrupted"}


async def test_an_operator_is_answered_during_a_stop(supervisor: Supervisor) -> None:
    await supervisor.serve()
    await turn(supervisor, "sleep 60")
    supervisor.say(Stop(grace_s=3600.0), Query(request=7, about="session", key=KEY))

    answer = await supervisor.until_heard(Answer)

    assert (answer.request, answer.found, answer.data["state"]) == (7, True, "busy")
    supervisor.say(Query(request=8, about="session", key="api:default:unknown"))
    await until(lambda: any(isinstance(told, Answer) and not told.found for told in supervisor.heard))
    supervisor.say(Stop(grace_s=0.0))
    await supervisor.exit_code()


async def test_a_worker_without_a_supervisor_interrupts_what_runs_and_ends(supervisor: Supervisor) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "sleep 60")

    supervisor.link.close()

    assert await supervisor.exit_code() == EXIT_ORPHANED
    assert (await end_of(accepted)).state == "interrupted"
    assert await states_on_disk(supervisor.home) == {"turn_sleep 60": "interrupted"}


async def test_a_worker_that_loses_its_supervisor_before_it_knows_who_it_is_ends(supervisor: Supervisor) -> None:
    supervisor.link.close()

    assert await supervisor.exit_code() == EXIT_ORPHANED


async def test_a_worker_that_loses_its_supervisor_while_it_stops_waits_no_longer(supervisor: Supervisor) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "sleep 60")
    supervisor.say(Stop(grace_s=3600.0))
    await until(lambda: not supervisor.worker._router.serving)

    supervisor.link.close()

    assert await supervisor.exit_code() == EXIT_ORPHANED
    assert (await end_of(accepted)).state == "interrupted"


async def test_a_long_order_does_not_keep_an_orphan_alive(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await supervisor.serve()
    accepted = await turn(supervisor, "sleep 60")
    begun = asyncio.Event()

    async def never(_: Worker, __: Assign) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Worker, "assign", never)
    supervisor.say(Assign(owners={}, peers={}))
    await asyncio.wait_for(begun.wait(), BOUND_S)

    supervisor.link.close()

    assert await supervisor.exit_code() == EXIT_ORPHANED
    assert (await end_of(accepted)).state == "interrupted"


async def test_an_orphan_ends_in_time_whatever_does_not(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "ORPHAN_EXIT_S", 0.05)
    await supervisor.serve()

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(supervisor.worker._ingress, "close", never)

    supervisor.link.close()

    assert await supervisor.exit_code() == EXIT_ORPHANED
    await supervisor.worker._shards.close()
    await supervisor.worker._journal.close()
    await supervisor.worker._sessions.agency.models.close()
    await supervisor.worker._peers.close()


@pytest.mark.parametrize(
    "orders",
    [
        lambda supervisor: [Assign(owners={}, peers={})],
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
    supervisor.say(Answer(request=1, found=True, data={}))

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
    supervisor.say(supervisor.configure(), Assign(owners={0: [0, 1], 1: [0, 1]}, peers={}))
    await until(lambda: supervisor.service._worker is not None)

    supervisor.service.link._abort("broken")  # the loss is told in the loop's next round

    assert await supervisor.exit_code() == EXIT_ORPHANED
    assert not any(isinstance(message, ShardBroken) for message in supervisor.heard)
    assert "never retrieved" not in caplog.text


def test_an_orphan_that_hangs_is_ended_by_the_kernel() -> None:
    program = "from workers import main; main.ORPHAN_KILLED_S = 0.05; main.be_killed_soon()\nwhile True: pass"

    ended = subprocess.run([sys.executable, "-c", program], timeout=BOUND_S * 4, check=False)

    assert ended.returncode == -signal.SIGALRM
