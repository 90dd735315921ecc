"""Real restarts and deaths of the real gateway: what is cut, struck, marked and suspended, and what never is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from fakes.long_suite import long
from fakes.model_server import ModelServer
from fakes.restarted import REASONS, Kind, Restarted, restartable


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


# -- three cuts, of one kind or mixed ---------------------------------------------------------------------------------

STORIES = (
    ("stop", "kill", "restart"),
    *long(
        ("restart", "restart", "restart"),
        ("crash", "crash", "crash"),
        ("kill", "kill", "kill"),
        ("crash", "restart", "stop"),
    ),
)


@dataclass(kw_only=True)
class Story:
    """What became of sessions over three cuts.

    ``stuck`` was cut three times, ``twice`` the last two times; ``relieved`` three times with a success before the
    last; ``idle`` the first and the last time; ``tooling`` the last time, in a tool call; ``untouched`` never.
    """

    kinds: tuple[Kind, Kind, Kind]
    callers: list[Any]  # what those of the first cut got
    exit_codes: list[int]  # of hermes-ctl drain
    ids: dict[str, str]  # session ids before the cuts
    sessions: dict[str, dict[str, Any]]  # after them
    ledger: dict[str, dict[str, Any]]
    told: dict[str, str] = field(default_factory=dict)  # answers to /status after them
    fresh: list[str] = field(default_factory=list)  # replies to the next messages of ``stuck``
    fresh_id: str = ""
    requested: list[str] = field(default_factory=list)  # what people said, in the request of the first of them
    back_id: str = ""
    back: list[str] = field(default_factory=list)  # the same after /resume
    notes: list[list[str]] = field(default_factory=list)  # system messages after the cuts: two failures, two successes
    dangling: list[str] = field(default_factory=list)  # the system and tool messages after a cut in a tool call
    after: dict[str, dict[str, Any]] = field(default_factory=dict)  # sessions in the end


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STORIES, ids="-".join)
async def story(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: ModelServer
) -> AsyncIterator[Story]:
    async with restartable(tmp_path_factory.mktemp("story"), model) as stage:
        yield await told(stage, request.param)


async def told(stage: Restarted, kinds: tuple[Kind, Kind, Kind]) -> Story:
    gateway = stage.gateway
    for name in ("stuck", "twice", "relieved", "idle", "tooling", "untouched"):
        await gateway.say("hello", name)
    ids = {name: line["session_id"] for name, line in (await stage.sessions()).items()}

    callers = await stage.cut_while_running(kinds[0], "stuck", "relieved", "idle")
    await stage.cut_while_running(kinds[1], "stuck", "relieved", "twice")
    await gateway.say("all is well", "relieved")
    await stage.cut_while_running(kinds[2], "stuck", "relieved", "twice", "idle", in_a_tool="tooling")

    story = Story(
        kinds=kinds,
        callers=callers,
        exit_codes=stage.exit_codes,
        ids=ids,
        sessions=await stage.sessions(),
        ledger=stage.ledger(),
    )
    story.told = {name: await gateway.say("/status", name) for name in ("stuck", "twice", "untouched")}
    story.fresh.append(await gateway.say("what now?", "stuck"))
    story.requested = stage.requested("user")
    story.fresh.append(await gateway.say("and now?", "stuck"))
    story.fresh_id = (await stage.session("stuck"))["session_id"]
    await gateway.say("/resume", "stuck")
    story.back_id = (await stage.session("stuck"))["session_id"]
    await gateway.say("where were we?", "stuck")
    story.back = stage.requested("user")
    for text in ("[[http:500]]", "[[http:500]]", "[[ok]]", "[[ok]]"):
        await gateway.chat(text, "twice")
        story.notes.append(stage.requested("system"))
    await gateway.say("go on", "tooling")
    story.dangling = [*stage.requested("system"), *stage.requested("tool")]
    story.after = await stage.sessions()
    return story


def of_supervisor(kind: Kind) -> bool:
    """Whether the supervisor went too, so that idle sessions are known to be not stuck."""
    return kind != "crash"


def test_three_cuts_in_a_row_suspend_a_session_and_keep_its_transcript(story: Story) -> None:
    stuck = story.sessions["stuck"]

    assert (stuck["suspended"], stuck["resume_pending"], stuck["strikes"]) == (True, False, 0)
    assert stuck["session_id"] == story.ids["stuck"]
    assert "stuck" not in story.ledger


def test_status_in_a_session_tells_what_it_carries_and_wakes_nothing(story: Story) -> None:
    assert "suspended" in story.told["stuck"]
    assert story.ids["stuck"] in story.told["stuck"]
    assert "strikes   2 of 3" in story.told["twice"]
    assert "\ncut " in story.told["twice"]
    assert story.told["untouched"].splitlines()[2:] == ["state     passivated; the next message activates it"]


def test_two_cuts_do_not_suspend(story: Story) -> None:
    twice = story.sessions["twice"]

    assert (twice["suspended"], twice["resume_pending"], twice["strikes"]) == (False, True, 2)
    assert twice["session_id"] == story.ids["twice"]
    assert story.ledger["twice"]["count"] == 2
    assert story.ledger["twice"]["causes"] == [REASONS[kind] for kind in story.kinds[1:]]


def test_a_success_between_cuts_begins_the_count_anew(story: Story) -> None:
    assert story.sessions["relieved"]["strikes"] == 1
    assert not story.sessions["relieved"]["suspended"]


def test_a_session_that_is_idle_at_a_restart_of_the_supervisor_loses_its_strikes(story: Story) -> None:
    assert story.sessions["idle"]["strikes"] == (1 if of_supervisor(story.kinds[1]) else 2)


def test_a_mark_names_what_cut_last(story: Story) -> None:
    reasons = {story.sessions[name]["resume_reason"] for name in ("twice", "relieved", "idle", "tooling")}

    assert reasons == {REASONS[story.kinds[2]]}


def test_a_session_that_no_cut_met_carries_nothing(story: Story) -> None:
    untouched = story.sessions["untouched"]

    assert (untouched["suspended"], untouched["resume_pending"], untouched["strikes"]) == (False, False, 0)
    assert untouched["session_id"] == story.ids["untouched"]


def test_callers_whose_turns_are_cut_by_a_drain_are_told_so(story: Story) -> None:
    if story.kinds[0] in ("restart", "stop"):
        assert {(status, body["error"]["code"]) for status, body, _ in story.callers} == {(503, "turn_interrupted")}
    else:  # the worker that held them is dead
        assert all(isinstance(error, aiohttp.ClientError) for error in story.callers)


def test_a_drain_that_had_to_mark_sessions_exits_with_3(story: Story) -> None:
    assert story.exit_codes == [3] * sum(kind in ("restart", "stop") for kind in story.kinds)


def test_the_next_message_of_a_suspended_session_begins_afresh_and_says_so_once(story: Story) -> None:
    first, second = story.fresh

    opening, _, rest = first.partition("\n")
    assert story.ids["stuck"] in opening
    assert "/resume" in opening
    assert rest.strip() == "pong"
    assert second == "pong"
    assert story.fresh_id != story.ids["stuck"]
    assert story.requested == ["what now?"]


def test_resume_brings_the_transcript_of_a_suspended_session_back(story: Story) -> None:
    assert story.back_id == story.ids["stuck"]
    assert (story.back[0], story.back[-1]) == ("hello", "where were we?")


def test_the_model_is_told_of_the_cut_once_in_each_request_until_a_turn_succeeds(story: Story) -> None:
    failed, failed_again, succeeded, later = story.notes

    assert failed == failed_again == succeeded
    (note,) = failed
    assert note.count("interrupted: ") == 1
    assert "unknown outcomes" in note
    assert later == []


def test_the_note_stands_for_what_is_known_of_an_unfinished_tool_call(story: Story) -> None:
    note, result = story.dangling

    assert "interrupted: " in note
    assert result == "outcome unknown"


def test_a_success_clears_mark_and_strikes(story: Story) -> None:
    for name in ("stuck", "twice", "tooling"):
        line = story.after[name]
        assert (line["suspended"], line["resume_pending"], line["strikes"]) == (False, False, 0)
