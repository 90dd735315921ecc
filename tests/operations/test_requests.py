"""Requests of operators as they arrive: what is taken, what is refused, and in which words."""

from __future__ import annotations

import json
import math
from dataclasses import is_dataclass
from typing import Any

import pytest
from fakes.operations import filled, made
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.operations.operation import Operation
from hermes_actors.operations.plain import Misfit, fields_of, from_plain, to_plain
from hermes_actors.operations.requests import LARGEST_PAGE, LONGEST_TIMEOUT_S, REQUESTS, BeginDrain, ClearStrikes, read
from hermes_actors.operations.results import Connection, Drained, DrainShown, Loss, SessionShown, Status, Then


@pytest.mark.parametrize(
    ("operation", "arguments", "words"),
    [
        ("sessions.list", {"limit": 0}, "limit must be a number from 1 to 1000"),
        ("sessions.list", {"limit": LARGEST_PAGE + 1}, "limit must be a number from 1 to 1000"),
        ("sessions.list", {"limit": "ten"}, "limit must be a whole number"),
        ("sessions.list", {"limit": True}, "limit must be a whole number"),
        ("sessions.list", {"after": 5}, "after must be a text"),
        ("sessions.show", {}, "session is missing"),
        ("sessions.show", {"session": ""}, "session must be a text that is not empty"),
        ("mcp.restart", {}, "server is missing"),
        ("mcp.restart", {"server": 5}, "server must be a text"),
        ("drain", {"timeout": -1}, "timeout must be a number of seconds from 0 to 31622400"),
        ("drain", {"timeout": math.nan}, "timeout must be a number of seconds from 0 to 31622400"),
        ("drain", {"timeout": LONGEST_TIMEOUT_S + 1}, "timeout must be a number of seconds from 0 to 31622400"),
        ("drain", {"timeout": "soon"}, "timeout must be a number"),
        ("drain", {"then": "sleep"}, "then must be one of hold, restart, stop"),
        ("drain", {"then": ["stop"]}, "then must be one of hold, restart, stop"),
        ("drain.plan", {"timeout": False}, "timeout must be a number"),
        ("reboot", {}, "unknown operation 'reboot'"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_what_is_wanted(
    operation: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(Misfit) as refused:
        read(operation, arguments)

    assert str(refused.value) == words


def test_what_the_hermes_ctl_of_an_earlier_release_sends_is_taken() -> None:
    """It names every argument, with None for those that were not given, and may have some that are gone by now."""
    assert read("drain", {"timeout": None, "then": "restart", "asker": None}) == BeginDrain(then=Then.RESTART)
    assert read("ledger.clear", {"session": None}) == ClearStrikes()
    assert read("drain", {"timeout": 5, "then": "stop", "asker": "api:a:x", "gone": 1}) == BeginDrain(
        timeout=5, asker="api:a:x"
    )


@pytest.mark.parametrize("name", REQUESTS)
def test_every_request_names_its_result_and_arrives_as_it_was_sent(name: str) -> None:
    request: Operation[Any] = made(
        REQUESTS[name], {one.name: "x" for one in fields_of(REQUESTS[name]) if one.is_required}
    )

    assert is_dataclass(request.result)
    assert read(name, json.loads(json.dumps(to_plain(request)))) == request


def test_what_there_is_not_is_none_or_left_out_as_the_class_says() -> None:
    assert "usual_s" not in to_plain(made(DrainShown, {"turns": [{"key": "k"}]}))["turns"][0]
    assert to_plain(made(DrainShown, {}))["then"] is None
    assert to_plain(made(Drained, {}))["suspended"] == []


@pytest.mark.parametrize(
    ("wanted", "plain", "words"),
    [
        (Connection, {"starts": True}, "r.starts must be a whole number"),
        (Drained, {"cut": ["a", 1]}, "r.cut[1] must be a text"),
        (Connection, [], "r must be an object"),
        (SessionShown, {"turns": {"running": "one"}}, "r.turns.running must be a whole number"),
        (Status, {"losses": [{"what": "nothing"}]}, "r.losses[0].what must be one of all, end, names"),
        (Status, {"http": {"host": "h", "port": 0.5}}, "r.http.port must be a whole number"),
    ],
)
def test_a_misfit_names_the_place_and_what_is_wanted(wanted: type[Any], plain: Any, words: str) -> None:
    plain = filled(wanted, plain) if isinstance(plain, dict) else plain

    with pytest.raises(Misfit) as refused:
        from_plain(wanted, plain, "r")

    assert str(refused.value) == words


def test_keys_of_a_later_release_are_ignored() -> None:
    assert from_plain(Drained, {**to_plain(made(Drained, {})), "later": 1}) == made(Drained, {})


@given(
    st.builds(
        Loss,
        *(st.integers(), st.floats(allow_nan=False), st.none() | st.integers()),
        st.sampled_from(["all", "end", "names"]),
        st.text(),
        st.none() | st.text(),
        st.none() | st.floats(allow_nan=False),
        st.integers(),
    )
)
def test_a_result_comes_back_from_json_as_it_was(loss: Loss) -> None:
    status = made(Status, {"losses": [loss._asdict()]})

    assert from_plain(Status, json.loads(json.dumps(to_plain(status)))) == status
