"""A restart that is prepared: who waits for it together, and what is stronger than it."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.core_desk import Desk, messages, of, reply, sent, serving, shown

from hermes_actors.core import effects as fx
from hermes_actors.core.drain.drain import MOST_WAITING
from hermes_actors.core.events import OperatorAsked, RestartPrepared, RestartRefused, Said
from hermes_actors.core.state import Process, ReplyTo
from hermes_actors.operations.requests import BeginDrain, read
from hermes_actors.operations.results import Phase, Then
from hermes_actors.wire import messages as wire
from hermes_actors.wire.refusals import RefusalCode

KEY = "api:default:a"


def gateway() -> Desk:
    desk = serving()
    desk.prepares = False
    return desk


def ask(
    desk: Desk, request: int, operation: str = "drain", then: str = "restart", **arguments: Any
) -> tuple[fx.Effect, ...]:
    """For a restart, unless it says what else."""
    arguments |= {"then": then}
    return desk.tell(OperatorAsked(reply_to=ReplyTo(1, request), operation=read(operation, arguments)))


def preparing(*requests: int) -> Desk:
    desk = gateway()
    for request in requests or (1,):
        ask(desk, request)
    assert desk.state.phase is Phase.SERVING
    return desk


def prepared(desk: Desk, number: int = 1) -> tuple[fx.Effect, ...]:
    return desk.tell(RestartPrepared(number=number))


def restarted(desk: Desk) -> tuple[fx.Effect, ...]:
    """The drain of an idle gateway, to its end."""
    effects: tuple[fx.Effect, ...] = ()
    for one in (desk.drained, desk.sealed):
        effects += one(0) + one(1)
    for slot in (0, 1):
        effects += desk.die(slot, exitcode=0)
    return effects


def answers(effects: tuple[fx.Effect, ...]) -> dict[int, RefusalCode | None]:
    """Requests -> the error, or None."""
    return {one.reply_to.request: one.error for one in of(fx.Reply, effects)}


@pytest.mark.parametrize(
    "asking",
    [
        OperatorAsked(reply_to=ReplyTo(1, 1), operation=BeginDrain(then=Then.RESTART)),
        Said(process=Process(0, 1), message=wire.RestartWanted(key=KEY)),
    ],
)
def test_nothing_drains_before_the_next_life_is_ready(asking: OperatorAsked | Said) -> None:
    desk = gateway()

    effects = desk.tell(asking)
    assert of(fx.PrepareRestart, effects) == [fx.PrepareRestart(number=1)]
    assert not sent(wire.Drain, effects)

    assert sent(wire.Drain, prepared(desk))
    assert desk.state.phase is Phase.DRAINING


def test_requests_that_come_meanwhile_wait_for_the_same_preparation_and_all_are_answered() -> None:
    desk = preparing(1, 2)
    ask(desk, 3)
    assert len(of(fx.PrepareRestart, desk.log)) == 1

    prepared(desk)

    effects = restarted(desk)
    assert answers(effects) == {1: None, 2: None, 3: None}
    assert effects[-1] == fx.EndProcess(restart=True)


def test_a_request_joins_a_restart_that_drains_already_up_to_its_very_end() -> None:
    desk = preparing(1)
    prepared(desk)

    assert not of(fx.PrepareRestart, ask(desk, 2))
    assert answers(restarted(desk)) == {1: None, 2: None}

    assert answers(ask(desk, 3)) == {3: None}
    assert not of(fx.DropNextLife, desk.log)


def test_a_request_that_joins_a_stop_has_nothing_prepared() -> None:
    desk = gateway()
    ask(desk, 1, then="stop")

    assert not of(fx.PrepareRestart, ask(desk, 2))

    effects = restarted(desk)
    assert answers(effects) == {1: None, 2: None}
    assert effects[-1] == fx.EndProcess(restart=False)


def test_a_held_gateway_stays_held_while_a_restart_is_prepared() -> None:
    desk = gateway()
    ask(desk, 1, then="hold", timeout=0)
    desk.sealed(0)
    desk.sealed(1)

    assert of(fx.PrepareRestart, ask(desk, 2))
    assert desk.state.phase is Phase.HELD

    prepared(desk)
    assert answers(restarted(desk)) == {2: None}


def test_a_restart_that_is_impossible_is_refused_to_all_who_wait() -> None:
    desk = preparing(1, 2)

    effects = desk.tell(RestartRefused(number=1, error=RefusalCode.CONFIGURATION, why="it is wrong"))

    assert answers(effects) == {1: "configuration", 2: "configuration"}
    assert {one.why for one in of(fx.Reply, effects)} == {"it is wrong"}
    assert [(line.level, line.fields) for line in of(fx.Log, effects)] == [("error", {"why": "it is wrong"})]
    assert desk.state.phase is Phase.SERVING
    assert of(fx.PrepareRestart, ask(desk, 3)) == [fx.PrepareRestart(number=2)]


@pytest.mark.parametrize("then", ["restart", "hold"])
def test_what_the_gateway_is_to_outlive_is_refused_where_its_cuts_could_not_be_marked(then: str) -> None:
    desk = gateway()
    assert of(fx.ProveWritable, ask(desk, 1, then=then))
    desk = gateway()
    desk.disk(full=True)

    effects = ask(desk, 1, then=then)

    (refusal,) = of(fx.Reply, effects)
    assert refusal.error == RefusalCode.STORE_FAILED
    assert "disk is full" in refusal.why
    assert not of(fx.PrepareRestart, effects)
    assert not of(fx.ProveWritable, effects)
    assert (desk.state.phase, desk.state.preparation) == (Phase.SERVING, None)


def test_a_full_disk_keeps_nobody_from_stopping_the_gateway() -> None:
    desk = gateway()
    desk.disk(full=True)

    effects = ask(desk, 1, then="stop")

    assert not of(fx.ProveWritable, effects)
    assert desk.state.phase is Phase.DRAINING


def test_it_is_seen_that_a_restart_is_prepared() -> None:
    desk = preparing(1)
    (status,) = of(fx.Reply, desk.operator("status"))
    (question,) = messages(wire.Query, desk.operator("drain.status"))
    desk.answer(0, question.request, {"turns": [], "queued": 0})
    told = reply(desk.answer(1, question.request, {"turns": [], "queued": 0}))

    assert (shown(status)["preparing"], shown(status)["drain"]) == (True, None)
    assert (told.data["preparing"], told.data["then"]) == (True, None)

    prepared(desk)
    (status,) = of(fx.Reply, desk.operator("status"))
    assert not shown(status)["preparing"]


def test_a_cancel_ends_the_preparation_for_all_who_wait() -> None:
    desk = preparing(1, 2)

    effects = ask(desk, 3, "drain.cancel")

    assert answers(effects) == {1: "cancelled", 2: "cancelled", 3: None}
    assert of(fx.DropNextLife, effects)
    assert prepared(desk) == ()
    assert desk.state.phase is Phase.SERVING


def test_a_cancel_ends_a_hold_and_what_is_prepared_to_follow_it() -> None:
    desk = gateway()
    ask(desk, 1, then="hold")
    ask(desk, 2)

    assert answers(ask(desk, 3, "drain.cancel")) == {1: "cancelled", 2: "cancelled", 3: None}
    assert desk.state.phase is Phase.SERVING
    assert answers(ask(desk, 4, "drain.cancel")) == {4: "not_draining"}


@pytest.mark.parametrize("then", ["hold", "stop"])
def test_who_wants_a_hold_or_a_stop_later_wins(then: str) -> None:
    desk = preparing(1)

    effects = ask(desk, 2, then=then)

    assert answers(effects) == {1: "overruled"}
    assert of(fx.Reply, effects)[0].why == f"hermes-ctl came later, and wants the gateway to {then}"
    assert of(fx.DropNextLife, effects)
    assert desk.state.drain is not None
    assert desk.state.drain.then == then
    assert prepared(desk) == ()


def test_a_signal_wins_over_a_restart_that_is_prepared() -> None:
    desk = preparing(1)

    assert answers(desk.stop()) == {1: "overruled"}

    assert of(fx.EndProcess, restarted(desk)) == [fx.EndProcess(restart=False)]


def test_a_preparation_that_was_dropped_counts_for_no_later_request() -> None:
    desk = preparing(1)
    ask(desk, 2, "drain.cancel")
    ask(desk, 3)

    assert prepared(desk, number=1) == ()
    assert desk.tell(RestartRefused(number=1, error=RefusalCode.CANNOT_RESTART, why="late")) == ()

    assert sent(wire.Drain, prepared(desk, number=2))


@pytest.mark.parametrize(("operation", "then"), [("drain.cancel", "restart"), ("drain", "stop")])
def test_a_next_life_that_nobody_wants_any_more_is_dropped(operation: str, then: str) -> None:
    desk = preparing(1)
    prepared(desk)

    assert of(fx.DropNextLife, ask(desk, 2, operation, then)) == [fx.DropNextLife()]


def test_only_so_many_may_wait_for_a_preparation() -> None:
    desk = preparing(*range(MOST_WAITING))

    assert answers(ask(desk, 500)) == {500: "busy"}
