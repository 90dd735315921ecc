"""Actors on the event loop: Pykka's rules, without its threads and hazards."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pykka
import pytest

from workers.sessions.actor import LoopActor

BOUND_S = 5.0


class Recorder(LoopActor):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.failures: list[BaseException | None] = []

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            message()
        self.seen.append(message)
        return message

    def on_failure(self, _type: Any, value: BaseException | None, _traceback: Any) -> None:
        self.failures.append(value)


def actor_of(ref: pykka.ActorRef[Recorder]) -> Recorder:
    actor = ref._actor_weakref()
    assert actor is not None
    return actor


async def test_mail_that_is_sent_on_the_loop_is_handled_at_once() -> None:
    ref = Recorder.start()

    ref.tell(1)

    assert actor_of(ref).seen == [1]
    assert ref.ask(2) == 2


async def test_mail_that_is_sent_while_other_mail_is_handled_is_handled_next() -> None:
    ref = Recorder.start()

    def sends() -> None:
        ref.tell(1)
        ref.tell(2)

    ref.tell(sends)
    ref.tell(3)

    assert actor_of(ref).seen == [sends, 1, 2, 3]


async def test_an_exception_under_ask_goes_to_the_asker_and_the_actor_lives() -> None:
    ref = Recorder.start()

    with pytest.raises(ValueError, match="oops"):
        ref.ask(ValueError("oops"))
    assert ref.ask("still here") == "still here"


async def test_an_exception_under_tell_ends_the_actor_after_on_failure() -> None:
    ref = Recorder.start()
    actor = actor_of(ref)

    ref.tell(ValueError("oops"))

    with pytest.raises(pykka.ActorDeadError):
        ref.ask("too late")
    assert [str(failure) for failure in actor.failures] == ["oops"]
    assert not ref.is_alive()


@pytest.mark.parametrize("fatal", [SystemExit(1), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_a_base_exception_ends_only_the_actor_it_was_raised_in(fatal: BaseException) -> None:
    other, ref = Recorder.start(), Recorder.start()

    ref.tell(fatal)

    assert not ref.is_alive()
    assert actor_of(ref).failures == [fatal]
    assert other.ask("fine") == "fine"


async def test_mail_to_a_dead_actor_is_answered_at_once() -> None:
    ref = Recorder.start()
    ref.tell(ValueError())

    with pytest.raises(pykka.ActorDeadError):
        ref.tell(2)
    with pytest.raises(pykka.ActorDeadError):
        ref.ask(3)


async def test_mail_that_an_actor_sends_itself_before_it_dies_is_refused() -> None:
    ref = Recorder.start()
    answers: list[pykka.Future[Any]] = []

    def asks_and_dies() -> None:
        answers.append(ref.ask("too late", block=False))
        raise ValueError

    ref.tell(asks_and_dies)

    with pytest.raises(pykka.ActorDeadError):
        answers[0].get()


async def test_a_thread_may_ask_and_block() -> None:
    ref = Recorder.start()

    async with asyncio.timeout(BOUND_S):
        assert await asyncio.to_thread(lambda: ref.ask("from a thread", timeout=BOUND_S)) == "from a thread"


async def test_an_actor_has_no_task_and_no_thread() -> None:
    threads, tasks = threading.active_count(), len(asyncio.all_tasks())

    for ref in [Recorder.start() for _ in range(100)]:
        ref.tell("hello")

    assert threading.active_count() == threads
    assert len(asyncio.all_tasks()) == tasks


async def test_a_stopped_actor_is_freed() -> None:
    ref = Recorder.start()
    gone = weakref.ref(actor_of(ref))

    ref.stop(block=False)
    del ref
    gc.collect()

    assert gone() is None
    assert not pykka.ActorRegistry.get_by_class(Recorder)


@pytest.fixture(autouse=True)
def registry_is_clean() -> Any:
    yield
    for ref in pykka.ActorRegistry.get_by_class(Recorder):
        pykka.ActorRegistry.unregister(ref)
