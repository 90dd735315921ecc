"""Questions to one worker or to all, and when they are answered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.core_desk import Answer, Desk, messages, of, reply, requested, sent, serving

from hermes_actors.core import effects as fx
from hermes_actors.core.events import Said, SessionsFound
from hermes_actors.core.operators.pending import RESPONSE_TIMEOUT_S
from hermes_actors.core.state import Process, ReplyTo, SessionEntry
from hermes_actors.operations.requests import ShowSession
from hermes_actors.operations.results import SessionShown
from hermes_actors.operations.workers import InspectSession, RestartConnections
from hermes_actors.wire import messages as wire

ENTRY = SessionEntry(
    key="api:a:x", session_id="ses_1", principal="a", shard=5, created_at=1.0, last_active_at=2.0
)  # shard 5 is slot 1's


def found() -> SessionsFound:
    return SessionsFound(reply_to=ReplyTo(3, 9), operation=ShowSession(session="x"), found=(ENTRY,))


def ask(desk: Desk, operation: str = "mcp", **arguments: object) -> int:
    """The number of the question that follows; every worker gets it."""
    (query,) = sent(wire.Query, desk.operator(operation, **arguments))
    assert query.to == desk.state.live
    return number_of(query)


def number_of(query: fx.Effect) -> int:
    assert isinstance(query, fx.Send)
    assert isinstance(query.message, wire.Query)
    return query.message.request


def show() -> tuple[Desk, int]:
    desk = serving()
    desk.records.add(ENTRY)
    (query,) = desk.tell(found())
    assert isinstance(query, fx.Send)
    assert isinstance(query.message, wire.Query)
    assert (query.to, requested(query.message)) == (((1, 1),), InspectSession(key="api:a:x"))
    return desk, number_of(query)


# -- one worker --------------------------------------------------------------------------------------------------------


def shown(desk: Desk, *effects: object) -> SessionShown:
    (answer,) = of(fx.Reply, effects)
    assert answer.reply_to == (3, 9)
    assert isinstance(answer.result, SessionShown)
    assert answer.result.key == ENTRY.key
    assert desk.state.pending == {}
    return answer.result


def test_what_a_worker_knows_of_its_session_is_shown_with_it() -> None:
    desk, number = show()

    answer = shown(desk, *desk.answer(1, number, {"turns": {"completed": 2}}))

    assert answer.turns == {"completed": 2}


def test_a_worker_that_does_not_answer_in_time_is_left_out() -> None:
    desk, number = show()

    assert shown(desk, *desk.wait(RESPONSE_TIMEOUT_S)).turns == {}
    assert desk.answer(1, number, {}) == ()


def test_another_worker_cannot_answer_in_its_place() -> None:
    desk, number = show()

    assert desk.answer(0, number, {}) == ()
    assert desk.tell(Said(process=Process(1, 0), message=wire.QueryResponse(request=number, found=True, data={}))) == ()


def test_a_session_of_a_worker_that_is_down_is_shown_from_the_registry_alone() -> None:
    desk = serving()
    desk.records.add(ENTRY)
    desk.die(1)

    answer = shown(desk, *desk.tell(found()))

    assert (answer.state, answer.turns) == ("unavailable", {})


# -- all workers -------------------------------------------------------------------------------------------------------


def connections(answer: Answer) -> list[tuple[int, str]]:
    return [(row["worker"], row["server"]) for row in answer.data["connections"]]


def test_a_response_that_no_worker_of_this_release_sends_counts_as_none() -> None:
    desk = serving(1)
    number = ask(desk)

    effects = desk.tell(
        Said(
            process=Process(0, 1), message=wire.QueryResponse(request=number, found=True, data={"connections": "none"})
        )
    )

    assert connections(reply(effects)) == []
    assert any("connections must be a list" in str(line.fields) for line in of(fx.Log, effects))


def test_the_connections_of_all_workers_are_one_list() -> None:
    desk = serving()
    number = ask(desk)
    assert desk.answer(1, number, {"connections": [{"server": "b"}]}) == ()

    answer = reply(desk.answer(0, number, {"connections": [{"server": "a"}, {"server": "b"}]}))

    assert connections(answer) == [(0, "a"), (0, "b"), (1, "b")]
    assert answer.data["missing"] == []


def test_who_says_nothing_until_the_deadline_is_named() -> None:
    desk = serving()
    desk.answer(1, ask(desk), {"connections": [{"server": "b"}]})

    answer = reply(desk.wait(RESPONSE_TIMEOUT_S))

    assert (connections(answer), answer.data["missing"]) == ([(1, "b")], [0])


def test_nobody_waits_for_a_worker_that_died() -> None:
    desk = serving()
    number = ask(desk)
    desk.answer(0, number, {"connections": []})

    answer = reply(desk.die(1))

    assert answer.data == {"connections": [], "missing": [1]}
    desk.spawned(1)
    assert desk.answer(1, number, {}) == ()


def test_the_first_answer_of_a_worker_counts_and_none_of_who_was_not_asked() -> None:
    desk = serving(3)
    desk.die(2)
    desk.spawned(2)
    (query,) = messages(wire.Query, desk.operator("mcp"))
    for slot, server in ((0, "first"), (0, "second"), (2, "third")):
        desk.answer(slot, query.request, {"connections": [{"server": server}]})

    answer = reply(desk.answer(1, query.request, {"connections": []}))

    assert (connections(answer), answer.data["missing"]) == ([(0, "first")], [])


def test_nobody_is_asked_where_no_worker_is_up() -> None:
    desk = Desk()

    effects = desk.operator("mcp")

    assert reply(effects).data == {"connections": [], "missing": []}
    assert not sent(wire.Query, effects)


def test_a_stop_answers_those_who_wait() -> None:
    desk = serving()
    ask(desk)

    assert reply(desk.stopping()).data["missing"] == [0, 1]


# -- restarting a server -----------------------------------------------------------------------------------------------


@pytest.fixture
def desk() -> Desk:
    made = serving()
    made.state = replace(made.state, servers=("files", "time"))
    return made


def test_a_server_is_restarted_on_every_worker_and_the_connections_are_counted(desk: Desk) -> None:
    effects = desk.operator("mcp.restart", server="time")
    (query,) = messages(wire.Query, effects)
    assert [send.to for send in sent(wire.Query, effects)] == [desk.state.live]
    assert requested(query) == RestartConnections(server="time")
    desk.answer(0, query.request, {"count": 2})

    answer = reply(desk.answer(1, query.request, {}, found=False))

    assert answer.data == {"restarted": 2, "missing": []}


def test_a_server_that_is_not_configured_is_not_found(desk: Desk) -> None:
    effects = desk.operator("mcp.restart", server="tine")

    answer = reply(effects)
    assert (answer.error, answer.why) == ("not_found", "no MCP server is named 'tine'; configured: files, time")
    assert not sent(wire.Query, effects)
