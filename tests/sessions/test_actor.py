"""Actors on the event loop: Pykka's rules, without its threads and hazards."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pykka
import pytest

from workers.sessions.actor import AsyncActor

BOUND_S = 5.0


class Recorder(AsyncActor):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.failures: list[BaseException | None] = []
        self.gate = asyncio.Event()

    async def on_receive(self, message: Any) -> Any:
        if message == "wait":
            await self.gate.wait()
        if isinstance(message, BaseException):
            raise message
        self.seen.append(message)
        return message

    def on_failure(self, _type: Any, value: BaseException | None, _traceback: Any) -> None:
        self.failures.append(value)


async def ask(ref: pykka.ActorRef[Any], message: Any) -> Any:
    async with asyncio.timeout(BOUND_S):
        return await ref.ask(message, block=False)


def actor_of(ref: pykka.ActorRef[Recorder]) -> Recorder:
    actor = ref._actor_weakref()
    assert actor is not None
    return actor


async def test_messages_are_handled_one_at_a_time_in_order() -> None:
    ref = Recorder.start()
    actor = actor_of(ref)
    ref.tell("wait")
    ref.tell(1)
    await asyncio.sleep(0)
    assert actor.seen == []
    actor.gate.set()

    assert await ask(ref, 2) == 2
    assert actor.seen == ["wait", 1, 2]


async def test_waiting_for_an_answer_does_not_block_the_loop() -> None:
    ref = Recorder.start()
    answer = asyncio.ensure_future(ask(ref, "wait"))
    ticks = 0
    while ticks < 100:
        await asyncio.sleep(0)
        ticks += 1
    assert not answer.done()
    actor_of(ref).gate.set()
    assert await answer == "wait"


async def test_an_exception_under_ask_goes_to_the_asker_and_the_actor_lives() -> None:
    ref = Recorder.start()

    with pytest.raises(ValueError, match="oops"):
        await ask(ref, ValueError("oops"))
    assert await ask(ref, "still here") == "still here"


async def test_an_exception_under_tell_ends_the_actor_after_on_failure() -> None:
    ref = Recorder.start()
    actor = actor_of(ref)
    ref.tell(ValueError("oops"))
    ref.tell("mail that waits")

    with pytest.raises(pykka.ActorDeadError):
        await ask(ref, "too late")
    assert [str(failure) for failure in actor.failures] == ["oops"]
    assert not ref.is_alive()


@pytest.mark.parametrize("fatal", [SystemExit(1), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_a_base_exception_ends_only_the_actor_it_was_raised_in(fatal: BaseException) -> None:
    other, ref = Recorder.start(), Recorder.start()

    with pytest.raises(pykka.ActorDeadError):
        await ask(ref, fatal)
    assert not ref.is_alive()
    assert await ask(other, "fine") == "fine"


async def test_mail_to_a_dead_actor_is_answered_at_once() -> None:
    ref = Recorder.start()
    ref.tell(ValueError())
    with pytest.raises(pykka.ActorDeadError):
        await ask(ref, 1)

    with pytest.raises(pykka.ActorDeadError):
        ref.tell(2)
    with pytest.raises(pykka.ActorDeadError):
        await ask(ref, 3)


async def test_a_thread_may_ask_and_block() -> None:
    ref = Recorder.start()
    async with asyncio.timeout(BOUND_S):
        assert await asyncio.to_thread(lambda: ref.ask("from a thread", timeout=BOUND_S)) == "from a thread"


async def test_blocking_on_the_loop_is_refused_instead_of_a_deadlock() -> None:
    ref = Recorder.start()

    with pytest.raises(RuntimeError, match="block the event loop"):
        ref.ask("never", block=False).get()


async def test_an_idle_actor_has_no_task_and_no_thread() -> None:
    threads, tasks = threading.active_count(), len(asyncio.all_tasks())
    refs = [Recorder.start() for _ in range(100)]
    for ref in refs:
        await ask(ref, "hello")

    assert threading.active_count() == threads
    assert len(asyncio.all_tasks()) == tasks


async def test_a_stopped_actor_is_freed() -> None:
    ref = Recorder.start()
    gone = weakref.ref(actor_of(ref))
    async with asyncio.timeout(BOUND_S):
        await ref.stop(block=False)
    await asyncio.sleep(0)
    del ref
    gc.collect()

    assert gone() is None
    assert not pykka.ActorRegistry.get_by_class(Recorder)


@pytest.fixture(autouse=True)
def registry_is_clean() -> Any:
    yield
    for ref in pykka.ActorRegistry.get_by_class(Recorder):
        pykka.ActorRegistry.unregister(ref)
