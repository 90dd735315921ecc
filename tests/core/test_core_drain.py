"""A drain: who is waited for, what is cut and when, and what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.core_desk import (
    Desk,
    drained,
    idle_in,
    kinds,
    marked,
    messages,
    noted,
    of,
    reply,
    requested,
    sent,
    serving,
    shown,
)

from hermes_actors.core import effects as fx
from hermes_actors.core.drain.drain import MOST_WAITING, SEAL_ANSWER_S
from hermes_actors.core.events import OperatorAsked, Said, Started, Tick
from hermes_actors.core.pool.lifecycle import READY_TIMEOUT_S, STOP_NOW_S
from hermes_actors.core.state import Process, ReplyTo
from hermes_actors.core.step import recorded
from hermes_actors.operations.plain import fields_of, to_plain
from hermes_actors.operations.requests import CancelDrain
from hermes_actors.operations.results import DrainFacts, Phase, Then, WorkerState
from hermes_actors.operations.workers import InspectTurns
from hermes_actors.wire import messages as wire
from hermes_actors.wire.records import CutTurn

EPOCH = 1.7e9  # the wall clock at monotonic zero
BOTH = (Process(0, 1), Process(1, 1))
A, B = ("api:default:a", "turn_a"), ("api:default:b", "turn_b")


def gateway(slots: int = 2, **limits: float) -> Desk:
    desk = serving(slots, **limits)
    desk.state = replace(desk.state, epoch=EPOCH)
    return desk


def draining(**arguments: Any) -> Desk:
    desk = gateway(heartbeat_s=1e4)  # nobody is hung
    desk.operator("drain", **arguments)
    assert desk.state.phase is Phase.DRAINING
    return desk


def sealing(**arguments: Any) -> Desk:
    """Both workers were asked what runs."""
    desk = draining(timeout=0, **arguments)
    assert sent(wire.Seal, desk.log)
    return desk


def held(*cut: tuple[str, str]) -> Desk:
    desk = sealing(then="hold")
    desk.sealed(0, *cut)
    desk.sealed(1)
    assert desk.state.phase is Phase.HELD
    return desk


def stop_all(desk: Desk) -> tuple[fx.Effect, ...]:
    effects: tuple[fx.Effect, ...] = ()
    for worker in desk.state.workers:
        effects += desk.die(worker.slot, exitcode=0)
    return effects


# -- it begins ---------------------------------------------------------------------------------------------------------


def test_every_worker_is_told_until_when_and_nobody_is_stopped() -> None:
    desk = gateway()

    effects = desk.operator("drain", timeout=30)

    assert sent(wire.Drain, effects) == [
        fx.Send(
            to=BOTH,
            message=wire.Drain(
                number=1, reason="shutdown_timeout", then=Then.STOP, deadline=EPOCH + desk.now + 30, asker=None
            ),
        )
    ]
    assert not sent(wire.StopWorker, effects)
    assert not drained(effects), "it is answered at the end"


@pytest.mark.parametrize(
    ("then", "reason"), [("restart", "restart_timeout"), ("hold", "shutdown_timeout"), ("stop", "shutdown_timeout")]
)
def test_what_follows_names_the_reason_of_the_cuts(then: str, reason: str) -> None:
    desk = gateway()

    (told,) = messages(wire.Drain, desk.operator("drain", then=then))

    assert told.reason == reason
    assert told.deadline == EPOCH + desk.now + desk.limits.drain_timeout_s


def test_a_message_of_an_administrator_begins_a_restart_that_does_not_wait_for_its_session() -> None:
    desk = gateway()

    effects = desk.tell(Said(process=Process(1, 1), message=wire.RestartWanted(key="api:default:a")))

    (told,) = messages(wire.Drain, effects)
    assert (told.reason, told.asker) == ("restart_timeout", "api:default:a")


def test_the_turn_that_asks_over_the_control_socket_is_not_waited_for_either() -> None:
    desk = gateway()

    (told,) = messages(wire.Drain, desk.operator("drain", asker="api:default:a"))

    assert told.asker == "api:default:a"


def test_workers_go_on_accepting_connections_for_those_that_are_down() -> None:
    desk = draining()

    desk.die(1)

    assert [send.message for send in sent(wire.Listen, desk.log) if send.to[0].slot == 0][-1] == wire.Listen(
        slots=[0, 1]
    )


def test_before_the_gateway_serves_nothing_is_waited_for() -> None:
    desk = Desk(2)
    desk.tell(Started())
    desk.spawned(0)

    effects = desk.stop()

    assert sent(wire.Seal, effects) == [fx.Send(to=(Process(0, 1),), message=wire.Seal(request=1))]
    effects = desk.sealed(0, A)
    assert marked(effects) == [(*A, "shutdown_timeout")]
    assert of(fx.Kill, effects) == [fx.Kill(process=Process(0, 1)), fx.Kill(process=Process(1, 1))]


# -- it ends -----------------------------------------------------------------------------------------------------------


def test_it_is_over_as_soon_as_no_worker_has_a_turn() -> None:
    desk = draining(timeout=3600)
    assert not sent(wire.Seal, desk.drained(0))

    effects = desk.drained(1)

    assert sent(wire.Seal, effects) == [fx.Send(to=BOTH, message=wire.Seal(request=1))]


def test_what_runs_at_the_deadline_decides_not_what_ran_when_it_began() -> None:
    desk = draining(timeout=30)
    desk.drained(0)
    assert not sent(wire.Seal, desk.wait(29.9))

    assert sent(wire.Seal, desk.wait(0.2))
    assert not marked(desk.sealed(0))
    assert marked(desk.sealed(1, B)) == [(*B, "shutdown_timeout")]


def test_cuts_are_recorded_before_anybody_is_cut_and_stopped() -> None:
    desk = sealing()
    desk.sealed(0, A, B, busy=["api:default:q"], stateless=2)

    effects = desk.sealed(1, busy=["api:default:r"])

    assert marked(effects) == [(*A, "shutdown_timeout"), (*B, "shutdown_timeout")]
    assert sent(wire.Cut, effects) == [
        fx.Send(to=BOTH, message=wire.Cut(reason="shutdown_timeout", at=EPOCH + desk.now))
    ]
    order = kinds(effects)
    assert order.index(fx.WriteIncident) < order.index(wire.Cut) < order.index(wire.StopWorker)


def test_that_the_end_of_this_life_began_is_recorded_before_the_workers_are_asked() -> None:
    desk = gateway()

    effects = desk.operator("drain", timeout=0)

    assert noted("stop_began_at", effects) == [EPOCH + desk.now]
    desk.sealed(0)
    assert noted("stop_began_at", desk.sealed(1)) == [EPOCH + desk.now], "again with the cuts, should it not be written"


def test_who_asked_hears_of_it_when_the_workers_are_gone() -> None:
    desk = draining()
    desk.wait(10.0)
    desk.operator("drain", timeout=0)
    desk.sealed(0, A, stateless=1)
    assert not drained(desk.sealed(1))
    desk.wait(1.0)

    effects = stop_all(desk)

    first, second = drained(effects)
    assert first == second
    assert to_plain(first.result) == {
        "marked": 1,
        "cut": [A[0]],
        "stateless": 1,
        "waiting": 0,
        "silent": [],
        "suspended": [],
        "took_s": 11.0,
        "then": "stop",
    }
    assert effects[-1] == fx.EndProcess(restart=False)


def test_who_asked_hears_of_sessions_whose_messages_wait_behind_a_turn_that_is_cut_too() -> None:
    desk = draining(timeout=0)
    desk.sealed(0, A, busy=[A[0], "api:default:c"])
    desk.sealed(1)

    (told,) = drained(stop_all(desk))

    assert (to_plain(told.result)["marked"], to_plain(told.result)["waiting"]) == (1, 2)


def recovered(desk: Desk, slot: int, shard: int, *cut: tuple[str, str]) -> tuple[fx.Effect, ...]:
    """The replacement of a worker has read a shard of it."""
    turns = [CutTurn(key, turn_id) for key, turn_id in cut]
    fence = desk.state.owners[shard].fence
    return desk.tell(
        Said(
            process=Process(slot, desk.generation(slot)),
            message=wire.Recovered(request=1, shard=shard, fence=fence, cut=turns, queued=[]),
        )
    )


def test_what_a_workers_death_cut_in_the_drain_is_told_with_the_rest() -> None:
    desk = draining(timeout=3600)
    desk.die(0)
    desk.wait(1.0)
    desk.spawned(0)
    for shard in range(4):
        recovered(desk, 0, shard, *([B] if shard == 2 else []))
    desk.ready(0)
    desk.operator("drain", timeout=0)
    desk.sealed(0)
    desk.sealed(1, A)

    told = to_plain(drained(stop_all(desk))[0].result)

    assert (told["marked"], told["cut"], told["silent"]) == (2, [B[0], A[0]], [])


def test_a_worker_that_died_in_the_drain_and_was_not_recovered_is_told_as_silent() -> None:
    desk = draining(timeout=3600)
    desk.die(0)
    desk.operator("drain", timeout=0)

    told = to_plain(drained((*desk.sealed(1), *stop_all(desk)))[0].result)

    assert (told["marked"], told["silent"]) == (0, [0])


def test_what_an_earlier_life_left_is_not_told_as_cut_by_the_drain() -> None:
    desk = Desk(2)
    desk.tell(Started())
    desk.spawned(0)
    desk.spawned(1)
    desk.operator("drain", timeout=0)
    recovered(desk, 0, 0, A)
    desk.sealed(0)
    desk.sealed(1)

    told = to_plain(drained(stop_all(desk))[0].result)

    assert (told["marked"], told["silent"]) == (0, [])


def test_a_restart_runs_the_gateway_anew() -> None:
    desk = draining(then="restart", timeout=0)
    desk.sealed(0)
    desk.sealed(1)

    assert of(fx.EndProcess, stop_all(desk)) == [fx.EndProcess(restart=True)]


# -- workers that die, hang, or come up ----------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_and_told_before_it_owns_anything() -> None:
    desk = draining(asker="api:default:a")
    assert of(fx.Spawn, desk.die(1))

    effects = desk.spawned(1)

    assert kinds(effects)[:3] == [wire.Configure, wire.Drain, wire.Assign]
    (told,) = messages(wire.Drain, effects)
    assert told.asker == "api:default:a"
    assert [send.to for send in sent(wire.Drain, effects)] == [(Process(1, 2),)]
    assert not sent(wire.Drain, desk.ready(1)), "once is enough"


def test_a_worker_that_comes_up_is_waited_for_but_not_one_that_is_down() -> None:
    desk = gateway(max_restarts=0)
    desk.operator("drain", timeout=3600)
    desk.drained(0)
    assert desk.state.drain is not None

    effects = desk.die(1)

    assert desk.worker(1).state is WorkerState.GIVEN_UP
    assert sent(wire.Seal, effects) == [fx.Send(to=(Process(0, 1),), message=wire.Seal(request=1))]

    desk = draining(timeout=3600)
    desk.drained(0)
    desk.die(1)
    desk.spawned(1)
    assert not sent(wire.Seal, desk.ready(1))
    assert sent(wire.Seal, desk.drained(1))


def test_what_was_said_of_a_cancelled_drain_counts_no_more_for_the_next() -> None:
    desk = draining(timeout=3600)
    assert desk.state.drain is not None
    before = desk.state.drain.number
    desk.operator("drain.cancel")
    desk.operator("drain", timeout=3600)
    for slot in (0, 1):
        desk.tell(Said(process=Process(slot, 1), message=wire.NoTurnRuns(number=before)))

    assert not sent(wire.Seal, desk.drained(0))
    assert sent(wire.Seal, desk.drained(1))


def test_what_a_dead_process_said_counts_no_more_for_its_replacement() -> None:
    desk = draining(timeout=3600)
    desk.drained(0)
    desk.die(0)
    desk.spawned(0)
    assert desk.state.drain is not None
    desk.tell(Said(process=Process(0, 1), message=wire.NoTurnRuns(number=desk.state.drain.number)))

    assert not sent(wire.Seal, desk.drained(1))


def test_a_worker_that_does_not_tell_what_runs_is_killed_and_its_shards_are_unknown() -> None:
    desk = sealing()
    desk.strike_all()
    desk.sealed(0, A)

    effects = desk.wait(SEAL_ANSWER_S)

    assert of(fx.Kill, effects) == [fx.Kill(process=Process(1, 1))]
    assert desk.spared == {4, 5, 6, 7}
    (line,) = [log for log in of(fx.Log, effects) if "drained" in log.text]
    assert (line.level, line.fields["silent"]) == ("warning", [1])
    assert sent(wire.Cut, effects) == [
        fx.Send(to=(Process(0, 1),), message=wire.Cut(reason="shutdown_timeout", at=EPOCH + desk.now))
    ]
    assert sent(wire.StopWorker, effects) == [fx.Send(to=(Process(0, 1),), message=wire.StopWorker())]


def test_the_shards_of_a_worker_that_dies_before_it_tells_are_unknown() -> None:
    desk = sealing()
    desk.strike_all()
    desk.sealed(0)

    desk.die(1)

    assert desk.spared == {4, 5, 6, 7}


def test_a_worker_that_dies_while_the_others_tell_is_replaced_only_if_the_gateway_stays() -> None:
    desk = sealing()
    assert not of(fx.Spawn, desk.die(1) + desk.sealed(0))
    assert desk.state.phase is Phase.STOPPING

    desk = sealing(then="hold")
    assert not of(fx.Spawn, desk.die(1) + desk.sealed(0))
    assert of(fx.Spawn, desk.wait(SEAL_ANSWER_S))
    assert sent(wire.Drain, desk.spawned(1))


def test_what_a_worker_told_before_it_died_is_recorded() -> None:
    desk = sealing()
    desk.sealed(0, A)
    desk.die(0)

    desk.strike_all()

    assert marked(desk.sealed(1)) == [(*A, "shutdown_timeout")]
    assert desk.spared == set()


def test_a_worker_that_has_not_read_all_its_shards_tells_only_of_what_it_runs() -> None:
    desk = gateway()
    desk.die(1)
    desk.spawned(1)
    desk.operator("drain", timeout=0)
    desk.sealed(0)

    desk.strike_all()

    assert marked(desk.sealed(1, B)) == [(*B, "shutdown_timeout")]
    assert desk.spared == {4, 5, 6, 7}


def test_a_shard_that_nobody_could_read_is_unknown() -> None:
    desk = gateway()
    desk.tell(Said(process=Process(0, 1), message=wire.ShardBroken(shard=2, why="torn", set_aside=None, serving=False)))
    desk.tell(
        Said(process=Process(0, 1), message=wire.ShardBroken(shard=3, why="torn", set_aside="/aside", serving=True))
    )
    desk.operator("drain", timeout=0)
    desk.strike_all()
    desk.sealed(0)

    desk.sealed(1)

    assert desk.spared == {2}


def test_an_answer_to_an_earlier_question_is_nobodys() -> None:
    desk = held()
    desk.operator("drain", timeout=0)

    assert not desk.sealed(0, A, ago=1) + desk.sealed(1, B, ago=1)
    desk.sealed(0)
    assert not marked(desk.sealed(1))
    assert desk.state.phase is Phase.STOPPING


def test_a_supervisor_that_did_not_run_kills_nobody_whose_answer_waits() -> None:
    desk = sealing()
    due = desk.now + SEAL_ANSWER_S
    desk.now += 3600

    effects = desk.tell(Tick(due=due))

    assert not of(fx.Kill, effects)
    desk.strike_all()
    assert not desk.sealed(0)
    desk.sealed(1)
    assert desk.spared == set()


@pytest.mark.parametrize("beats", [False, True])
def test_nobody_is_killed_for_what_was_asked_only_after_a_slow_commit(beats: bool) -> None:
    desk = sealing()
    decided_at, due = desk.now, desk.now + SEAL_ANSWER_S
    desk.now += 4.0
    desk.state = recorded(desk.state, decided_at, desk.now)

    effects = (*(desk.beat(0) if beats else ()), *desk.tell(Tick(due=due)))

    assert not of(fx.Kill, effects)
    assert not marked(effects)


def test_a_hung_worker_is_killed_during_a_drain_too() -> None:
    desk = gateway()
    desk.operator("drain", timeout=3600)

    assert len(of(fx.Kill, desk.wait(READY_TIMEOUT_S))) == 2


# -- signals, and drains that join ---------------------------------------------------------------------------------


def test_a_signal_drains_for_the_configured_time() -> None:
    desk = gateway(drain_s=60.0, heartbeat_s=1e4)
    assert sent(wire.Drain, desk.stop())
    assert not sent(wire.Seal, desk.wait(59.9))

    assert sent(wire.Seal, desk.wait(0.2))


def test_a_second_signal_seals_at_once_and_a_third_waits_for_nobody() -> None:
    desk = gateway()
    desk.stop()

    assert sent(wire.Seal, desk.stop())

    desk.sealed(0, A)
    effects = desk.stop()
    assert marked(effects) == [(*A, "shutdown_timeout")]
    assert of(fx.Kill, effects) == [fx.Kill(process=Process(1, 1))]
    desk.stop()
    assert of(fx.Kill, desk.wait(STOP_NOW_S)) == [fx.Kill(process=Process(0, 1))]


def test_a_signal_makes_a_stop_of_a_restart() -> None:
    desk = draining(then="restart", timeout=3600)
    desk.stop()
    desk.stop()
    desk.sealed(0)

    assert [reason for _, _, reason in marked(desk.sealed(1, A))] == ["shutdown_timeout"]
    assert of(fx.EndProcess, stop_all(desk)) == [fx.EndProcess(restart=False)]


def test_a_signal_while_the_workers_stop_makes_a_stop_of_a_restart() -> None:
    desk = draining(then="restart", timeout=0)
    desk.sealed(0)
    desk.sealed(1)
    assert desk.state.phase is Phase.STOPPING

    desk.stop()

    assert of(fx.EndProcess, stop_all(desk)) == [fx.EndProcess(restart=False)]


def test_a_drain_that_joins_brings_the_deadline_nearer_never_further() -> None:
    desk = draining(timeout=10)
    assert not sent(wire.Drain, desk.operator("drain", timeout=3600)), "nothing is new"
    assert desk.state.drain is not None
    assert desk.state.drain.deadline == desk.now + 10

    effects = desk.operator("drain", timeout=5)

    assert desk.state.drain.deadline == desk.now + 5
    (told,) = messages(wire.Drain, effects)
    assert (told.number, told.deadline) == (desk.state.drain.number, EPOCH + desk.now + 5)
    assert [send.to for send in sent(wire.Drain, effects)] == [BOTH]


def test_a_session_that_joins_a_drain_is_not_waited_for() -> None:
    desk = draining(timeout=10)

    (told,) = messages(wire.Drain, desk.operator("drain", asker="api:default:a"))
    assert (told.number, told.asker) == (1, "api:default:a")

    desk.operator("drain")
    assert desk.state.drain is not None
    assert desk.state.drain.asker == "api:default:a"


def test_a_stop_that_joins_a_restart_tells_the_workers_that_the_gateway_stops() -> None:
    desk = draining(then="restart", timeout=10)

    (told,) = messages(wire.Drain, desk.stop())

    assert told.reason == "shutdown_timeout"


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [("hold", "restart", "restart"), ("restart", "hold", "restart"), ("restart", "stop", "stop")],
)
def test_of_two_drains_the_stronger_request_follows(first: str, second: str, wins: str) -> None:
    desk = draining(timeout=3600, then=first)

    desk.operator("drain", timeout=0, then=second)

    desk.sealed(0)
    desk.sealed(1)
    assert {to_plain(line.result)["then"] for line in drained(stop_all(desk))} == {wins}


def test_only_so_many_may_wait_for_the_end() -> None:
    desk = draining()
    for _ in range(MOST_WAITING - 1):
        desk.operator("drain")

    assert reply(desk.operator("drain")).error == "busy"


def test_after_the_end_there_is_nothing_to_drain() -> None:
    desk = sealing()
    desk.sealed(0)
    desk.sealed(1)
    stop_all(desk)

    assert reply(desk.operator("drain", then="restart")).error == "busy"
    (joined,) = drained(desk.operator("drain"))
    assert to_plain(joined.result)["then"] == "stop"


# -- cancelled, held ---------------------------------------------------------------------------------------------------


def test_a_cancelled_drain_serves_on_and_tells_those_who_waited() -> None:
    desk = draining()

    effects = desk.tell(OperatorAsked(reply_to=ReplyTo(4, 1), operation=CancelDrain()))

    assert sent(wire.DrainOver, effects) == [fx.Send(to=BOTH, message=wire.DrainOver())]
    waited, cancelled = of(fx.Reply, effects)
    assert (waited.reply_to.client, waited.error) == (3, "cancelled")
    assert (cancelled.reply_to.client, cancelled.error) == (4, None)
    assert desk.state.phase is Phase.SERVING
    assert not sent(wire.Seal, desk.drained(0) + desk.drained(1)), "what was said before does not count"


def test_a_drain_after_a_cancelled_one_starts_from_nothing() -> None:
    desk = draining(timeout=3600)
    desk.drained(0)
    desk.operator("drain.cancel")

    effects = desk.operator("drain", timeout=3600)

    assert sent(wire.Drain, effects)
    assert not sent(wire.Seal, desk.drained(1))


@pytest.mark.parametrize("prepare", [gateway, sealing])
def test_what_is_no_drain_or_cuts_already_cannot_be_cancelled(prepare: Any) -> None:
    desk = prepare()

    assert reply(desk.operator("drain.cancel")).error == "not_draining"

    if desk.state.phase is Phase.DRAINING:
        desk.sealed(0)
        desk.sealed(1)
        assert reply(desk.operator("drain.cancel")).error == "not_draining"


def test_a_held_gateway_stays_up_with_what_it_cut_marked_and_no_strike_dropped() -> None:
    desk = sealing(then="hold")
    desk.strike_all()
    desk.sealed(0, A)

    effects = desk.sealed(1)

    assert [reason for _, _, reason in marked(effects)] == ["shutdown_timeout"]
    assert desk.spared == set(range(8))
    assert sent(wire.Cut, effects)
    assert not sent(wire.StopWorker, effects)
    (answer,) = drained(effects)
    assert (to_plain(answer.result)["marked"], to_plain(answer.result)["then"], answer.result.cut) == (
        1,
        "hold",
        (A[0],),
    )
    (again,) = drained(desk.operator("drain", then="hold"))
    assert again.result == answer.result, "it is held already"
    assert desk.state.phase is Phase.HELD


def test_a_held_gateway_serves_again_when_the_drain_is_cancelled() -> None:
    desk = held(A)
    assert noted("stop_began_at", desk.log), "should it be killed while it is held"

    effects = desk.operator("drain.cancel")

    assert noted("stop_began_at", effects) == [None]
    assert sent(wire.DrainOver, effects) == [fx.Send(to=BOTH, message=wire.DrainOver())]
    assert reply(effects).error is None
    assert desk.state.phase is Phase.SERVING


def test_a_gateway_that_was_held_before_it_served_is_announced_when_it_may() -> None:
    desk = Desk(1)
    desk.tell(Started())
    desk.operator("drain", then="hold")
    assert desk.state.phase is Phase.HELD
    assert sent(wire.Drain, desk.spawned(0))
    assert not of(fx.Announce, desk.ready(0))

    assert of(fx.Announce, desk.operator("drain.cancel"))


def test_a_worker_that_is_replaced_while_held_begins_no_turn() -> None:
    desk = gateway(heartbeat_s=1e4)
    desk.operator("drain", timeout=60, then="hold")
    for slot in (0, 1):
        desk.drained(slot)
    for slot in (0, 1):
        desk.sealed(slot)
    assert desk.state.phase is Phase.HELD
    desk.die(0)

    (told,) = messages(wire.Drain, desk.spawned(0))
    assert told.deadline <= EPOCH + desk.now, "it lets nobody wait for an end that nobody knows"


@pytest.mark.parametrize("then", ["stop", "restart"])
def test_from_held_it_goes_on_at_once_and_keeps_the_strikes_of_its_own_cuts(then: str) -> None:
    desk = held(A)
    since = EPOCH + desk.now
    desk.wait(10.0)

    effects = desk.operator("drain", then=then, timeout=3600)

    assert sent(wire.Seal, effects)
    assert not sent(wire.Drain, effects), "they are drained"
    assert set(noted("stop_began_at", desk.log)) == {since}, "when it was held"
    desk.strike_all()
    desk.sealed(0)
    assert not marked(desk.sealed(1, busy=[idle_in(3)]))
    assert desk.spared == {3}
    (answer,) = drained(stop_all(desk))
    assert (to_plain(answer.result)["marked"], to_plain(answer.result)["took_s"]) == (0, 0.0)


def test_a_signal_while_held_stops_at_once() -> None:
    desk = held()

    assert sent(wire.Seal, desk.stop())


# -- what is seen ------------------------------------------------------------------------------------------------------


def turn(key: str, started_at: float, **more: Any) -> dict[str, Any]:
    return {
        "worker": 0,
        "key": key,
        "turn_id": f"turn_{key}",
        "started_at": started_at,
        "stateless": False,
        "usual_s": None,
        **more,
    }


def test_what_still_runs_is_shown_oldest_first() -> None:
    desk = draining(timeout=30, then="restart")
    began_at = EPOCH + desk.now
    desk.wait(5.0)
    (query,) = messages(wire.Query, desk.operator("drain.status"))
    assert requested(query) == InspectTurns()

    desk.answer(0, query.request, {"turns": [turn("c", EPOCH + 3), turn("a", EPOCH + 1)], "queued": 2})
    answer = reply(desk.answer(1, query.request, {"turns": [turn("b", EPOCH + 2, stateless=True)], "queued": 3}))

    told = dict(answer.data)
    assert [line["key"] for line in told.pop("turns")] == ["a", "b", "c"]
    assert told == {
        "phase": "draining",
        "preparing": False,
        "then": "restart",
        "by": "hermes-ctl",
        "asker": None,
        "began_at": began_at,
        "deadline_at": began_at + 30,
        "left_s": 25.0,
        "count": 3,
        "queued": 5,
        "missing": [],
    }


def test_without_a_drain_there_is_only_what_runs() -> None:
    desk = gateway(1)
    (query,) = messages(wire.Query, desk.operator("drain.status"))

    data = reply(desk.answer(0, query.request, {"turns": [], "queued": 0})).data

    assert {name for name, value in data.items() if value is None} == {one.name for one in fields_of(DrainFacts)}


def test_the_status_tells_of_the_drain() -> None:
    desk = draining(timeout=30)

    (status,) = of(fx.Reply, desk.operator("status"))

    assert (shown(status)["phase"], shown(status)["drain"]["left_s"]) == ("draining", 30.0)
    (status,) = of(fx.Reply, gateway().operator("status"))
    assert shown(status)["drain"] is None


def test_no_time_is_left_once_the_turns_were_cut() -> None:
    desk = draining(timeout=3600)
    desk.drained(0)
    desk.drained(1)
    desk.sealed(0)
    desk.sealed(1)

    (status,) = of(fx.Reply, desk.operator("status"))

    assert (shown(status)["phase"], shown(status)["drain"]["left_s"]) == ("stopping", None)


def test_a_plan_is_made_of_what_the_workers_tell_and_changes_nothing() -> None:
    desk = gateway()
    before = desk.state
    (query,) = messages(wire.Query, desk.operator("drain.plan", timeout=7))
    desk.answer(0, query.request, {"turns": [turn("a", EPOCH + desk.now - 4, usual_s=9.0)], "queued": 1})

    (planned,) = of(fx.Reply, desk.wait(10.0))

    assert planned.reply_to == (3, 9)
    assert [(line.key, line.worker, line.usual_s) for line in planned.result.turns] == [("a", 0, 9.0)]
    assert (planned.result.timeout_s, planned.result.queued, planned.result.missing) == (7.0, 1, (1,))
    assert replace(desk.state, asked=0) == before


@pytest.mark.parametrize(("arguments", "timeout_s"), [({}, 60.0), ({"timeout": 0}, 0.0)])
def test_a_plan_is_for_the_configured_time_unless_another_is_named(arguments: dict[str, Any], timeout_s: float) -> None:
    desk = gateway(1)
    (query,) = messages(wire.Query, desk.operator("drain.plan", **arguments))

    (planned,) = of(fx.Reply, desk.answer(0, query.request, {"turns": [], "queued": 0}))

    assert planned.result.timeout_s == timeout_s


# -- the service manager -------------------------------------------------------------------------------------------


def notices(effects: Any) -> list[str]:
    return [notice.about for notice in of(fx.Announce, effects)]


def test_the_service_manager_hears_of_the_end_when_nothing_can_cancel_it() -> None:
    desk = draining(timeout=3600)
    assert notices(desk.log) == ["ready", "draining"]
    assert notices(desk.operator("drain.cancel")) == ["serving"]

    desk.operator("drain", timeout=3600)
    assert notices(desk.wait(0.0)) == []
    assert notices(desk.operator("drain", timeout=0)) == ["draining", "stopping"]


def test_the_service_manager_is_asked_to_be_patient_until_after_the_deadline() -> None:
    desk = draining(timeout=30)

    notice = of(fx.Announce, desk.log)[-1]

    assert notice.within_s > 30 + SEAL_ANSWER_S + STOP_NOW_S


def test_the_service_manager_hears_of_a_restart_and_of_a_hold() -> None:
    assert notices(sealing(then="restart").log)[-1] == "restarting"
    desk = sealing(then="hold")
    desk.sealed(0)
    assert notices(desk.sealed(1)) == ["held"]


# -- a disk that is full -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["restart", "hold"])
def test_what_cannot_be_marked_is_not_cut_and_the_gateway_serves_on(then: str) -> None:
    desk = sealing(then=then)
    desk.sealed(0, A)
    desk.disk(full=True)

    effects = desk.sealed(1)

    assert not marked(effects)
    assert not sent(wire.Cut, effects)
    assert sent(wire.DrainOver, effects) == [fx.Send(to=BOTH, message=wire.DrainOver())]
    assert len(of(fx.DropNextLife, effects)) == (then == "restart")
    assert reply(effects).error == "store_failed"
    assert "disk is full" in reply(effects).why
    assert (desk.state.phase, desk.state.drain) == (Phase.SERVING, None)


def test_a_stop_leaves_to_the_next_start_what_it_cannot_mark_and_says_so() -> None:
    desk = sealing()
    desk.sealed(0, A)
    desk.disk(full=True)

    effects = desk.sealed(1)

    assert not marked(effects)
    assert not sent(wire.Cut, effects), "on disk the turn would be over, and no mark would tell of it"
    assert len(sent(wire.StopWorker, effects)) == 2
    answer = reply(stop_all(desk))
    assert answer.error == "store_failed"
    assert "the next start marks them" in answer.why


def test_a_stop_that_has_nothing_to_mark_needs_no_disk() -> None:
    desk = sealing()
    desk.sealed(0)
    desk.disk(full=True)
    desk.sealed(1)

    assert drained(stop_all(desk))
