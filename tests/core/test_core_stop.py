"""Stopping: in order, at once, and always to an end."""

from __future__ import annotations

from fakes.core_desk import Desk, of, serving

from hermes_actors.core import effects as fx
from hermes_actors.core.events import Started, WorkerLost
from hermes_actors.core.lifecycle import EXIT_WAIT_S, STOP_MARGIN_S, STOP_NOW_S
from hermes_actors.core.model import Phase, WorkerState


def test_a_stop_asks_every_worker_with_the_configured_grace() -> None:
    desk = serving(grace_s=60.0)

    effects = desk.stop()

    assert of(fx.SendStop, effects) == [
        fx.SendStop(slot=0, generation=1, grace_s=60.0),
        fx.SendStop(slot=1, generation=1, grace_s=60.0),
    ]
    assert not of(fx.Kill, effects)


def test_the_gateway_ends_when_the_last_worker_is_gone() -> None:
    desk = serving()
    desk.stop()
    assert not of(fx.Finish, desk.die(0, exitcode=0))

    effects = desk.die(1, exitcode=0)

    assert of(fx.Finish, effects)
    assert desk.state.phase is Phase.STOPPED


def test_no_worker_is_replaced_while_stopping() -> None:
    desk = serving()
    desk.stop()

    effects = desk.die(0)

    assert not of(fx.Spawn, effects)
    assert of(fx.Sweep, effects)
    assert not of(fx.Spawn, desk.wait(3600.0))


def test_who_does_not_stop_within_grace_and_margin_is_killed() -> None:
    desk = serving(grace_s=60.0)
    desk.stop()
    desk.die(1, exitcode=0)
    assert not of(fx.Kill, desk.wait(60.0 + STOP_MARGIN_S - 0.1))

    effects = desk.wait(0.2)

    assert of(fx.Kill, effects) == [fx.Kill(slot=0, generation=1)]
    assert of(fx.Finish, desk.die(0))


def test_a_second_stop_ends_the_grace() -> None:
    desk = serving(grace_s=60.0)
    desk.stop()

    effects = desk.stop()

    assert [stop.grace_s for stop in of(fx.SendStop, effects)] == [0.0, 0.0]
    assert of(fx.Kill, desk.wait(STOP_NOW_S + 0.1)) == [fx.Kill(slot=0, generation=1), fx.Kill(slot=1, generation=1)]


def test_a_stop_for_now_has_no_grace_from_the_first() -> None:
    desk = serving(grace_s=60.0)

    effects = desk.stop(now=True)

    assert [stop.grace_s for stop in of(fx.SendStop, effects)] == [0.0, 0.0]


def test_a_later_stop_never_moves_the_deadline_away() -> None:
    desk = serving(grace_s=0.0)
    desk.stop(now=True)
    desk.wait(STOP_NOW_S - 0.5)
    desk.stop()

    assert of(fx.Kill, desk.wait(0.6))


def test_workers_that_only_start_are_killed_and_those_that_are_down_are_not_waited_for() -> None:
    desk = Desk(3, max_restarts=0)
    desk.tell(Started())
    desk.spawned(0)
    desk.ready(0)
    desk.die(2)
    assert desk.worker(2).state is WorkerState.GIVEN_UP

    effects = desk.stop()

    assert of(fx.SendStop, effects) == [fx.SendStop(slot=0, generation=1, grace_s=60.0)]
    assert of(fx.Kill, effects) == [fx.Kill(slot=1, generation=1)]
    desk.spawned(1)  # the start that was on its way comes to its end
    desk.die(1)
    assert of(fx.Finish, desk.die(0, exitcode=0))


def test_a_stop_with_no_worker_alive_ends_at_once() -> None:
    desk = Desk(1, max_restarts=0)
    desk.tell(Started())
    desk.die(0)

    assert of(fx.Finish, desk.stop())


def test_a_worker_that_closes_its_link_while_stopping_may_go_on_to_its_end() -> None:
    desk = serving()
    desk.stop()

    assert not of(fx.Kill, desk.tell(WorkerLost(slot=0, generation=1, why="closed by the other end")))


def test_a_process_that_even_sigkill_does_not_end_does_not_hold_up_the_end() -> None:
    desk = serving(grace_s=1.0)
    desk.stop()
    assert of(fx.Kill, desk.wait(1.0 + STOP_MARGIN_S))

    effects = desk.wait(EXIT_WAIT_S + 0.1)

    assert of(fx.Finish, effects)
    assert [entry.level for entry in of(fx.Log, effects)] == ["error"]


def test_a_stop_after_the_end_is_nothing() -> None:
    desk = serving(1)
    desk.stop()
    desk.die(0, exitcode=0)

    assert desk.stop() == ()
