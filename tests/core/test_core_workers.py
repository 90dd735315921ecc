"""The life of workers: spawn, ready, hung, dead, replaced, given up."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.core_desk import Desk, of, sent, serving, shown

from hermes_actors.core import effects as fx
from hermes_actors.core.events import Said, Started, StopAsked, Tick, WorkerExited, WorkerLost
from hermes_actors.core.pool.lifecycle import HEARTBEATS_MISSED, LOST_EXIT_S, READY_TIMEOUT_S, RECORD_RETRY_S, table
from hermes_actors.core.state import Owner, Process
from hermes_actors.core.step import due
from hermes_actors.operations.results import Phase, WorkerState
from hermes_actors.wire import messages as wire
from hermes_actors.wire.records import Load


def test_a_start_commits_new_fences_before_it_spawns() -> None:
    desk = Desk()

    effects = desk.tell(Started())

    kinds = [type(effect) for effect in effects]
    assert kinds == [fx.WriteOwners, fx.WriteOwners, fx.Spawn, fx.Spawn]
    assert {owner.fence for owner in desk.state.owners} == {101}


def test_a_new_process_is_told_who_it_is_then_the_table_then_where_to_listen() -> None:
    desk = Desk()
    desk.tell(Started())

    effects = desk.spawned(1)

    assert effects == (
        fx.Send(
            to=(Process(1, 1),), message=wire.Configure(boot="boot", slot=1, generation=1, shards=8, auto_resume=True)
        ),
        fx.Send(to=(Process(1, 1),), message=table(desk.state)),
        fx.Send(to=(Process(1, 1),), message=wire.Listen(slots=[1])),
    )


def test_the_gateway_serves_when_no_worker_starts_any_more() -> None:
    desk = Desk()
    desk.tell(Started())
    for slot in (0, 1):
        desk.spawned(slot)
    assert not of(fx.Announce, desk.ready(1))

    effects = desk.ready(0)

    assert of(fx.Announce, effects)
    assert desk.state.phase is Phase.SERVING


def test_a_worker_that_cannot_start_does_not_keep_the_others_from_serving() -> None:
    desk = Desk(max_restarts=0)
    desk.tell(Started())
    desk.spawned(0)
    desk.ready(0)

    effects = desk.die(1, exitcode=1)

    assert of(fx.Announce, effects)
    assert desk.worker(1).state is WorkerState.GIVEN_UP


def test_a_dead_worker_is_replaced_at_once_with_higher_fences() -> None:
    desk = serving()
    before = desk.state.owners

    effects = desk.die(0)

    assert of(fx.Spawn, effects) == [fx.Spawn(process=Process(0, 2))]
    assert of(fx.Sweep, effects) == [fx.Sweep(process=Process(0, 1))]
    for old, new in zip(before, desk.state.owners, strict=True):
        assert new == (Owner(0, old.fence + 1) if old.slot == 0 else old)


def test_the_others_learn_the_new_table_and_accept_for_a_dead_worker_until_its_replacement_is_ready() -> None:
    desk = serving()

    effects = desk.die(0)

    assert sent(wire.Assign, effects) == [fx.Send(to=(Process(1, 1),), message=table(desk.state))]
    assert sent(wire.Listen, effects) == [fx.Send(to=(Process(1, 1),), message=wire.Listen(slots=[0, 1]))]
    desk.spawned(0)
    effects = desk.ready(0)
    assert sent(wire.Listen, effects) == [fx.Send(to=(Process(1, 1),), message=wire.Listen(slots=[1]))]
    assert sent(wire.Assign, effects) == [fx.Send(to=(Process(0, 2), Process(1, 1)), message=table(desk.state))]


def test_a_worker_without_a_heartbeat_for_three_intervals_is_killed_and_replaced() -> None:
    desk = serving(heartbeat_s=5.0)
    effects: tuple[fx.Effect, ...] = ()
    for _ in range(HEARTBEATS_MISSED):
        effects += desk.wait(4.9)
        desk.beat(1)
    assert not of(fx.Kill, effects)

    effects = desk.wait(0.5)

    assert of(fx.Kill, effects) == [fx.Kill(process=Process(0, 1))]
    assert of(fx.Spawn, desk.die(0)) == [fx.Spawn(process=Process(0, 2))]


def test_a_supervisor_that_was_itself_suspended_blames_no_worker() -> None:
    desk = serving()
    at = due(desk.state)
    assert at is not None
    desk.now = at + 3600.0

    effects = desk.tell(Tick(due=at))

    assert not of(fx.Kill, effects)
    assert of(fx.Kill, desk.wait(desk.limits.heartbeat_s * HEARTBEATS_MISSED + 0.1))


def test_a_worker_that_does_not_become_ready_in_time_is_killed() -> None:
    desk = Desk()
    desk.tell(Started())
    desk.spawned(0)
    desk.ready(0)
    for _ in range(int(READY_TIMEOUT_S)):
        effects = desk.wait(1.0)
        desk.beat(0)

    assert of(fx.Kill, effects) == [fx.Kill(process=Process(1, 1))]


def test_a_worker_that_was_killed_from_outside_is_not_said_to_be_killed_by_us() -> None:
    desk = serving()

    effects = desk.tell(WorkerLost(process=Process(0, 1), why="closed by the other end"))
    effects += desk.tell(WorkerExited(process=Process(0, 1), exitcode=-9, jitter=0.0))

    assert not of(fx.Kill, effects)
    assert [(line.text, line.fields["exit"]) for line in of(fx.Log, effects)] == [("worker died", -9)]
    assert of(fx.Spawn, effects)


def test_a_worker_whose_link_ends_is_killed_when_it_lives_on() -> None:
    desk = serving()

    assert not of(fx.Kill, desk.tell(WorkerLost(process=Process(0, 1), why="closed by the other end")))
    assert 0 not in desk.state.up
    effects = desk.wait(LOST_EXIT_S)

    assert of(fx.Kill, effects) == [fx.Kill(process=Process(0, 1))]
    assert "it lives on" in of(fx.Log, effects)[0].fields["why"]
    assert not of(fx.Spawn, effects), "its shards may only have a new owner once it is gone"


def test_a_worker_whose_link_ended_is_killed_in_a_drain_too() -> None:
    desk = serving()
    desk.tell(WorkerLost(process=Process(0, 1), why="closed by the other end"))

    desk.tell(StopAsked(now=True, by="SIGTERM"))
    effects = desk.wait(LOST_EXIT_S)

    assert fx.Kill(process=Process(0, 1)) in effects


def test_restarts_back_off_and_too_many_give_the_slot_up_loudly_while_others_serve() -> None:
    desk = serving(max_restarts=3)
    waits = []
    while desk.worker(0).state is not WorkerState.GIVEN_UP:
        effects = desk.die(0, jitter=0.999)
        waits.append(round((desk.worker(0).retry_at or desk.now) - desk.now, 1))
        if desk.worker(0).state is not WorkerState.GIVEN_UP:
            desk.wait(waits[-1] + 0.01)
            desk.beat(1)

    assert waits == [0.0, 0.5, 1.0, 30.0]
    assert [entry.level for entry in of(fx.Log, effects)] == ["error"]
    assert desk.state.up == (1,)


def test_a_slot_that_was_given_up_is_tried_again_and_again() -> None:
    desk = serving(max_restarts=0)
    desk.die(0)
    waits = []
    for _ in range(6):
        assert desk.worker(0).state is WorkerState.GIVEN_UP
        waits.append((desk.worker(0).retry_at or 0.0) - desk.now)
        while desk.worker(0).state is WorkerState.GIVEN_UP:
            desk.wait(5.0)
            desk.beat(1)
        desk.die(0)

    assert waits == sorted(waits)
    assert 100 < waits[-1] <= 300


def test_a_worker_that_served_for_a_whole_window_starts_with_a_clean_sheet() -> None:
    desk = serving(max_restarts=1, heartbeat_s=30.0)
    desk.die(0)
    desk.die(0)
    assert desk.worker(0).state is WorkerState.GIVEN_UP
    desk.wait(31.0)
    desk.spawned(0)
    desk.ready(0)
    desk.wait(desk.limits.restart_window_s)

    effects = desk.die(0)

    assert of(fx.Spawn, effects)


def test_a_worker_that_was_given_up_and_dies_soon_again_is_not_restarted_fast() -> None:
    desk = serving(max_restarts=0, heartbeat_s=30.0)
    desk.die(0)
    desk.wait(31.0)
    desk.spawned(0)
    desk.ready(0)
    desk.wait(10.0)

    assert not of(fx.Spawn, desk.die(0))


def test_what_an_earlier_process_says_is_ignored() -> None:
    desk = serving()
    desk.die(0)
    before = desk.state

    for event in (
        WorkerLost(process=Process(0, 1), why="late"),
        WorkerExited(process=Process(0, 1), exitcode=0, jitter=0.0),
        Said(process=Process(0, 1), message=wire.ShardBroken(shard=0, why="late", set_aside=None, serving=False)),
    ):
        assert desk.tell(event) == ()

    assert desk.state == before


def test_a_heartbeat_of_an_earlier_process_keeps_no_later_one_alive() -> None:
    desk = serving()
    desk.die(0)
    desk.spawned(0)
    desk.ready(0)
    old = desk.worker(0).heard_at
    desk.now += 1

    desk.tell(Said(process=Process(0, 1), message=wire.Heartbeat(load=Load(), active={}, reached={})))

    assert desk.worker(0).heard_at == old


def test_activity_is_passed_on_in_one_piece_and_only_when_there_is_some() -> None:
    desk = serving()

    assert desk.beat(0) == ()
    assert desk.beat(0, {"api:a:1": 5.0, "api:a:2": 6.0}) == (
        fx.TouchSessions(active={"api:a:1": 5.0, "api:a:2": 6.0}),
    )


def status_of(desk: Desk) -> dict[str, Any]:
    (status,) = of(fx.Reply, desk.operator("status"))
    return shown(status)


def test_a_broken_shard_stands_in_the_status_until_its_worker_is_replaced() -> None:
    desk = serving()
    desk.tell(
        Said(process=Process(0, 1), message=wire.ShardBroken(shard=2, why="torn page", set_aside="/x", serving=True))
    )
    broken = status_of(desk)["shards"]["broken"]
    assert broken == [{"shard": 2, "why": "torn page", "set_aside": "/x", "serving": True}]

    desk.die(0)

    assert status_of(desk)["shards"]["broken"] == []


@pytest.mark.parametrize("exitcode", [0, 3, -9, None])
def test_every_way_to_end_counts_as_a_death_while_the_gateway_serves(exitcode: int | None) -> None:
    desk = serving()

    effects = desk.tell(WorkerExited(process=Process(1, 1), exitcode=exitcode, jitter=0.5))

    assert of(fx.Spawn, effects) == [fx.Spawn(process=Process(1, 2))]
    assert desk.worker(1).last_exit == exitcode


# -- a disk that is full -----------------------------------------------------------------------------------------------


def test_a_worker_that_dies_while_the_disk_is_full_is_replaced_when_its_ownership_can_be_recorded() -> None:
    desk = serving(max_restarts=1)
    desk.disk(full=True)
    effects = desk.die(0) + desk.wait(10 * RECORD_RETRY_S)
    assert not of(fx.Spawn, effects)
    assert not of(fx.WriteOwners, effects)
    assert [line.level for line in of(fx.Log, effects)] == ["warning", "error"], "the outage is told once"
    assert (desk.worker(0).state, desk.state.up) == (WorkerState.RESTARTING, (1,))

    desk.disk(full=False)
    desk.beat(1)

    assert of(fx.Spawn, desk.wait(RECORD_RETRY_S)) == [fx.Spawn(process=Process(0, 2))]
    assert len(desk.worker(0).failed_at) == 1, "its waiting was no death"
