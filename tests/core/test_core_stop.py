"""The workers' stop, once their turns are over: in order, in a hurry, and always to an end."""

from __future__ import annotations

from fakes.core_desk import Desk, of, sent, serving

from hermes_actors.core import effects as fx
from hermes_actors.core.events import Started, WorkerLost
from hermes_actors.core.pool.lifecycle import EXIT_WAIT_S, STOP_NOW_S, STOP_S
from hermes_actors.core.state import Process
from hermes_actors.operations.results import Phase, WorkerState
from hermes_actors.wire import messages as wire


def stopping(slots: int = 2) -> Desk:
    """A gateway whose workers were just asked to stop."""
    desk = serving(slots)
    desk.stopping()
    return desk


def test_every_worker_is_asked_to_stop_when_its_turns_are_over() -> None:
    desk = stopping()

    assert sent(wire.StopWorker, desk.log) == [
        fx.Send(to=(Process(0, 1),), message=wire.StopWorker()),
        fx.Send(to=(Process(1, 1),), message=wire.StopWorker()),
    ]
    assert not of(fx.Kill, desk.log)


def test_the_gateway_ends_when_the_last_worker_is_gone() -> None:
    desk = stopping()
    assert not of(fx.EndProcess, desk.die(0, exitcode=0))

    effects = desk.die(1, exitcode=0)

    assert of(fx.EndProcess, effects) == [fx.EndProcess(restart=False)]
    assert desk.state.phase is Phase.STOPPED


def test_no_worker_is_replaced_while_stopping() -> None:
    desk = stopping()

    effects = desk.die(0)

    assert not of(fx.Spawn, effects)
    assert of(fx.Sweep, effects)
    assert not of(fx.Spawn, desk.wait(3600.0))


def test_who_does_not_stop_in_time_is_killed() -> None:
    desk = stopping()
    desk.die(1, exitcode=0)
    assert not of(fx.Kill, desk.wait(STOP_S - 0.1))

    effects = desk.wait(0.2)

    assert of(fx.Kill, effects) == [fx.Kill(process=Process(0, 1))]
    assert of(fx.EndProcess, desk.die(0))


def test_who_stops_in_a_hurry_waits_less() -> None:
    desk = stopping()

    desk.stop()  # another signal

    assert of(fx.Kill, desk.wait(STOP_NOW_S + 0.1)) == [fx.Kill(process=Process(0, 1)), fx.Kill(process=Process(1, 1))]


def test_a_later_request_never_moves_the_end_away() -> None:
    desk = stopping()
    desk.wait(STOP_S - 0.5)

    desk.operator("drain", timeout=0)

    assert of(fx.Kill, desk.wait(0.6))


def test_workers_that_only_start_are_killed_and_those_that_are_down_are_not_waited_for() -> None:
    desk = Desk(3, max_restarts=0)
    desk.tell(Started())
    desk.spawned(0)
    desk.ready(0)
    desk.die(2)
    assert desk.worker(2).state is WorkerState.GIVEN_UP
    desk.stop()

    effects = desk.sealed(0)

    assert sent(wire.StopWorker, effects) == [fx.Send(to=(Process(0, 1),), message=wire.StopWorker())]
    assert of(fx.Kill, effects) == [fx.Kill(process=Process(1, 1))]
    desk.spawned(1)  # the start that was on its way comes to its end
    desk.die(1)
    assert of(fx.EndProcess, desk.die(0, exitcode=0))


def test_a_stop_with_no_worker_alive_ends_at_once() -> None:
    desk = Desk(1, max_restarts=0)
    desk.tell(Started())
    desk.die(0)

    assert of(fx.EndProcess, desk.stop())


def test_a_worker_that_closes_its_link_while_stopping_may_go_on_to_its_end() -> None:
    desk = stopping()

    assert not of(fx.Kill, desk.tell(WorkerLost(process=Process(0, 1), why="closed by the other end")))


def test_a_process_that_even_sigkill_does_not_end_does_not_hold_up_the_end() -> None:
    desk = stopping()
    assert of(fx.Kill, desk.wait(STOP_S))

    effects = desk.wait(EXIT_WAIT_S + 0.1)

    assert of(fx.EndProcess, effects)
    assert [entry.level for entry in of(fx.Log, effects)] == ["error"]


def test_a_stop_after_the_end_is_only_noted() -> None:
    desk = stopping(1)
    desk.die(0, exitcode=0)
    before = desk.state

    assert [type(effect) for effect in desk.stop()] == [fx.Log]
    assert desk.state == before
