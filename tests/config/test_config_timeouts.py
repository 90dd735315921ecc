"""Time-outs against each other: in the configuration, in the code, in the systemd unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.config_desk import Desk

from hermes_actors.cli import drain as command
from hermes_actors.config import timeouts
from hermes_actors.config.model import MAX_SECONDS, AgentSection, Config
from hermes_actors.core.drain import drain
from hermes_actors.core.pool import lifecycle
from hermes_actors.operations.requests import LONGEST_TIMEOUT_S
from hermes_actors.pool import pool, reaper
from workers.sessions import command_run, turn
from workers.store import rows


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.at(tmp_path / "home")


@pytest.mark.parametrize(
    ("text", "key", "remedy"),
    [
        (
            "model: {connect_timeout: 30, first_token_timeout: 20}",
            "model.connect_timeout",
            "set it to 20 or less, or raise first_token_timeout",
        ),
        ("model: {connect_timeout: 200}", "model.connect_timeout", "set it to 120 or less"),
        ("agent: {restart_drain_timeout: 86400}", "agent.restart_drain_timeout", "set it to 86370 or less"),
    ],
)
def test_time_outs_that_cannot_hold_together_are_told_with_the_smallest_change(
    desk: Desk, text: str, key: str, remedy: str
) -> None:
    problem = desk.problem(text)

    assert (problem.key, problem.line) == (key, 1)
    assert remedy in problem.remedy


@pytest.mark.parametrize(
    "text",
    [
        "model: {connect_timeout: 20, first_token_timeout: 20}",
        "model: {first_token_timeout: 1}",  # the default for connecting is just never reached
        "agent: {restart_drain_timeout: 86370}",
        "agent: {restart_drain_timeout: 0}",
        "{agent: {restart_drain_timeout: 1}, mcp_servers: {slow: {url: 'http://h/', timeout: 3600}}}",
    ],
)
def test_a_drain_may_be_shorter_than_what_it_cuts_and_bounds_may_meet(desk: Desk, text: str) -> None:
    desk.accepted(text)


def test_a_section_that_is_broken_otherwise_is_not_told_twice(desk: Desk) -> None:
    assert desk.problem("model: {connect_timeout: 200, max: 1}").what == "unknown key"


@pytest.mark.parametrize(("drain_s", "stop_s"), [(60.0, 90), (0.0, 30), (0.2, 31)])
def test_the_units_patience_is_above_what_a_stop_may_take(drain_s: float, stop_s: int) -> None:
    config = Config(agent=AgentSection(restart_drain_timeout=drain_s))

    assert timeouts.stop_timeout_s(config) == stop_s


def test_what_follows_a_drain_has_its_time_in_the_unit() -> None:
    closing_s = pool.ORPHAN_EXIT_S + pool.STUCK_S + reaper.GRACE_S

    assert drain.AFTER_DEADLINE_S + closing_s < timeouts.AFTER_DRAIN_S


def test_the_bounds_of_an_end_lie_within_each_other() -> None:
    assert turn.TOOL_GRACE_S < command_run.STOP_TIMEOUT_S
    assert drain.SEAL_ANSWER_S < lifecycle.READY_TIMEOUT_S < timeouts.START_S


def test_the_longest_drain_is_the_same_in_the_file_on_the_command_line_and_on_the_socket() -> None:
    assert command.LONGEST_S == LONGEST_TIMEOUT_S == MAX_SECONDS


def test_a_key_is_remembered_as_long_as_the_rule_believes() -> None:
    assert rows.IDEMPOTENCY_KEPT_S == timeouts.IDEMPOTENCY_S
