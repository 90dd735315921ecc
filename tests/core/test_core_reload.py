"""A new configuration while the gateway runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.core_desk import Desk, messages, of, reply, sent, serving

from hermes_actors.core import effects as fx
from hermes_actors.core.events import ReloadAsked, SettingsLoaded, SettingsRefused
from hermes_actors.core.operators.pending import RESPONSE_TIMEOUT_S
from hermes_actors.core.state import Process, ReplyTo
from hermes_actors.operations.results import Change
from hermes_actors.wire import messages as wire
from hermes_actors.wire.refusals import RefusalCode

OPERATOR = ReplyTo(3, 9)
CHANGE = Change(key="agent.max_turns", when="next_turn", what="90 → 5")


def loaded(desk: Desk, *, reply_to: ReplyTo | None = OPERATOR, nothing: bool = False) -> SettingsLoaded:
    return SettingsLoaded(
        reply_to=reply_to,
        changes=() if nothing else (CHANGE,),
        limits=replace(desk.limits, drain_timeout_s=7.0),
        servers=("time",),
    )


def given(effects: tuple[fx.Effect, ...]) -> tuple[tuple[Process, ...], int]:
    """Who gets the new configuration, and the number to answer with."""
    (send,) = sent(wire.Reconfigure, effects)
    (message,) = messages(wire.Reconfigure, effects)
    return send.to, message.request


def test_an_operator_and_a_signal_have_the_configuration_read() -> None:
    desk = serving()

    assert desk.operator("reload") == (fx.LoadSettings(reply_to=ReplyTo(3, 9)),)
    assert desk.tell(ReloadAsked()) == (fx.LoadSettings(reply_to=None),)


def test_what_changes_is_told_when_every_worker_has_it() -> None:
    desk = serving()
    to, number = given(desk.tell(loaded(desk)))
    assert to == desk.state.live
    assert not of(fx.Reply, desk.answer(0, number, {}))

    answer = reply(desk.answer(1, number, {}))

    assert (answer.error, answer.data) == (None, {"changes": [CHANGE._asdict()], "missing": []})


def test_a_worker_that_does_not_say_that_it_has_it_is_named() -> None:
    desk = serving()
    desk.answer(1, given(desk.tell(loaded(desk)))[1], {})

    assert reply(desk.wait(RESPONSE_TIMEOUT_S)).data["missing"] == [0]


def test_the_supervisor_goes_by_its_new_limits_and_server_names() -> None:
    desk = serving()
    desk.tell(loaded(desk))

    assert desk.state.servers == ("time",)
    (drain,) = messages(wire.Drain, desk.stop())
    assert drain.deadline == desk.now + 7.0


def test_a_worker_that_starts_is_told_too_if_it_was_configured_before() -> None:
    desk = serving(3)
    desk.die(1)
    desk.spawned(1)
    desk.die(2)  # its replacement will be configured later, with the new settings

    assert given(desk.tell(loaded(desk)))[0] == (Process(0, 1), Process(1, 2))


def test_the_same_configuration_again_disturbs_nobody() -> None:
    desk = serving()

    effects = desk.tell(loaded(desk, nothing=True))

    assert reply(effects).data == {"changes": [], "missing": []}
    assert not sent(wire.Reconfigure, effects)


def test_a_signal_leaves_what_changes_in_the_log() -> None:
    desk = serving()

    effects = desk.tell(loaded(desk, reply_to=None))

    (line,) = of(fx.Log, effects)
    assert line.fields == {"changes": ["agent.max_turns: 90 → 5 (next_turn)"]}
    later = desk.wait(RESPONSE_TIMEOUT_S)
    assert [line.fields for line in of(fx.Log, later)] == [{"missing": [0, 1]}]
    assert not of(fx.Reply, (*effects, *later))


@pytest.mark.parametrize("reply_to", [OPERATOR, None])
def test_a_configuration_that_cannot_be_used_changes_nothing_and_says_why(reply_to: ReplyTo | None) -> None:
    desk = serving()
    before = desk.state

    effects = desk.tell(SettingsRefused(reply_to=reply_to, error=RefusalCode.CONFIGURATION, why="line 3"))

    assert desk.state == before
    assert of(fx.Log, effects)[0].level == "error"
    assert [(answer.error, answer.why) for answer in of(fx.Reply, effects)] == [("configuration", "line 3")] * bool(
        reply_to
    )


def test_a_gateway_that_stops_takes_no_new_configuration() -> None:
    desk = serving()
    desk.stopping()

    effects = desk.operator("reload")

    assert reply(effects).error == "busy"
    assert not of(fx.LoadSettings, effects)
