"""What each client is tried with: the columns of the tables of docs/reference/clients.md.

A situation of ``WORKS`` held if the client's user got the answer. One of ``ONCE`` held if the message of the user is in
the session's transcript once, and no request to the model had it twice, whatever the client did by itself.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from e2e.test_deaths import kill_worker, worker_of
from fakes.outside_run import Outcome
from fakes.running_gateway import RunningGateway
from real_clients.clients import (
    CHAT,
    OUTPUT,
    PAGE,
    RESPONSES,
    RESPONSES_STREAM,
    RESPONSES_TOOL,
    STREAM,
    TOOL,
    Client,
)
from real_clients.meeting import Meeting, Said
from real_clients.pages import followed

RAIN = "rain in the east"
CALL = '[[tool:look:{"window": "east"}]]'
OWN_CALL = '[[tool:get_current_time:{"timezone": "UTC"}]]'
LONG_MS = 40_000  # a long turn: 30 s are the bound of the client that is impatient by itself
SHORTENED_MS, WAITS_S = 4_000, 1.5  # a long turn and the client's bound, where the client has to be asked for one
ENDLESS_MS = 60_000  # of a turn that is stopped or cut
CUT_S, MARKED = 1, 3  # that a restart waits for running turns; its exit code where one was cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A column."""

    title: str
    needs: str  # what a client must be able to do for it; empty: nothing
    play: Callable[[Meeting], Awaitable[Outcome]]
    alone: bool = False  # it restarts the gateway, or a worker of it

    @property
    def tag(self) -> str:
        """What is in its messages, and in no other situation's; the name of its session."""
        return re.sub("[^a-z]+", "-", f"of {self.title} in full".lower())


def answered(at: Meeting, said: Said, wanted: str, *, asked: int = 1) -> Outcome:
    """Whether the user got it, with so many requests to the model."""
    if said.error:
        return Outcome(held=False, seen=f"{said.error[:160]} ({at.sent})")
    if wanted not in said.text:
        return Outcome(held=False, seen=f"the answer was {said.text[:120]!r}")
    if len(at.asked) != asked:
        return Outcome(held=False, seen=f"the model was asked {len(at.asked)} times")
    return Outcome(held=True, seen="")


# -- what works -------------------------------------------------------------------------------------------------------
async def plain(at: Meeting) -> Outcome:
    return answered(at, await at.ask("[[say:one two three]]", session=False), "one two three")


async def streamed(at: Meeting) -> Outcome:
    return answered(at, await at.ask("[[say:one two three]]", session=False, stream=True), "one two three")


async def in_a_session(at: Meeting) -> Outcome:
    first = answered(at, await at.ask("[[say:first]]"), "first")
    second = answered(at, await at.ask("[[say:second]]", stream=STREAM in at.client.does), "second", asked=2)
    roles = [message["role"] for message in await at.transcript()]
    if roles != ["user", "assistant"] * 2:
        return Outcome(held=False, seen=f"the transcript has {roles}")
    return second if first.held else first


async def tool_of_the_agent(at: Meeting) -> Outcome:
    return answered(at, await at.ask(OWN_CALL, stream=True), "tools said: ", asked=2)


def call_for(client: Client) -> tuple[str, int]:
    """The directives for a call of the client's tool, and how often the model is asked until its answer."""
    if client.answers_with:
        return f'[[tool:{client.answers_with}:{{"answer": "{RAIN}"}}]]', 1
    return CALL, 2


async def tool_of_the_client(at: Meeting) -> Outcome:
    directives, asked = call_for(at.client)
    return answered(at, await at.ask(directives, session=False, tool=True), RAIN, asked=asked)


async def tool_in_a_session(at: Meeting) -> Outcome:
    directives, asked = call_for(at.client)
    outcome = answered(at, await at.ask(directives, tool=True), RAIN, asked=asked)
    faults = await at.faults_of_one_turn()
    return Outcome(held=False, seen="; ".join(faults)) if outcome.held and faults else outcome


async def output_type(at: Meeting) -> Outcome:
    directives = CALL.replace(":look:", f":{at.client.output_tool}:")
    return answered(at, await at.ask(directives, session=False, output=True), RAIN)


async def responses(at: Meeting) -> Outcome:
    return answered(at, await at.ask("[[say:one two three]]", responses=True), "one two three")


async def responses_streamed(at: Meeting) -> Outcome:
    return answered(at, await at.ask("[[say:one two three]]", responses=True, stream=True), "one two three")


async def responses_tool(at: Meeting) -> Outcome:
    return answered(at, await at.ask(CALL, session=False, responses=True, tool=True), RAIN, asked=2)


async def its_page(at: Meeting) -> Outcome:
    run, home = at.command, at.work / "of-the-page"
    environ = {"HOME": str(at.work), "PATH": f"{Path(run[0]).parent}:{os.environ['PATH']}"}
    async with RunningGateway(home, {"model": {"provider": "demo"}}) as gateway:
        return await followed(at.client, run, gateway, Path(run[-1]).parent, environ)


WORKS = (
    Situation(title="plain", needs=CHAT, play=plain),
    Situation(title="streamed", needs=STREAM, play=streamed),
    Situation(title="in a session", needs=CHAT, play=in_a_session),
    Situation(title="a tool of the agent, streamed", needs=STREAM, play=tool_of_the_agent),
    Situation(title="a tool of the client", needs=TOOL, play=tool_of_the_client),
    Situation(title="the same in a session", needs=TOOL, play=tool_in_a_session),
    Situation(title="an output type", needs=OUTPUT, play=output_type),
    Situation(title="responses", needs=RESPONSES, play=responses),
    Situation(title="responses, streamed", needs=RESPONSES_STREAM, play=responses_streamed),
    Situation(title="responses, a tool", needs=RESPONSES_TOOL, play=responses_tool),
    Situation(title="its page of the manual", needs=PAGE, play=its_page),
)


# -- one message, one turn --------------------------------------------------------------------------------------------
def how_it_speaks(at: Meeting) -> dict[str, bool]:
    """For a client that speaks Open Responses alone."""
    return {"responses": True} if CHAT not in at.client.does else {}


async def once(at: Meeting, said: Said, *, turns: int | None = 1, fails: str | None = None) -> Outcome:
    """Whether the one message was one turn.

    Args:
        at: the meeting.
        said: what the client's user saw.
        turns: how often the model may be asked; None: more often, if no request has the message twice.
        fails: words that the user must read in the error; None: the client may also have an answer.
    """
    faults = await at.faults_of_one_turn()
    if turns is not None and len(at.asked) != turns:
        faults.append(f"the model was asked {len(at.asked)} times")
    if fails is not None and (not said.error or fails not in said.error):
        faults.append(f"the user sees {(said.error or said.text)[:120]!r}")
    statuses = ", ".join(str(status or "none") for status in at.sent)
    return Outcome(held=not faults, seen="; ".join([statuses, *faults]))


async def refused(at: Meeting) -> Outcome:
    return await once(at, await at.ask("[[http:400]]", **how_it_speaks(at)), fails="400")


async def down(at: Meeting) -> Outcome:
    return await once(at, await at.ask("[[http:500]]", **how_it_speaks(at)), turns=None, fails="500")


async def broken_off(at: Meeting) -> Outcome:
    said = await at.ask("[[slow:1500]] [[cut]]", stream=STREAM in at.client.does, **how_it_speaks(at))
    return await once(at, said, turns=None, fails="model fake-1")


async def stopped(at: Meeting) -> Outcome:
    asking = asyncio.create_task(at.ask(f"[[slow:{ENDLESS_MS}]]", **how_it_speaks(at)))
    await at.until_asked()
    await at.gateway.say("/stop", at.tag)
    return await once(at, await asking, fails="stopped")


async def cut(at: Meeting) -> Outcome:
    asking = asyncio.create_task(at.ask(f"[[slow:{ENDLESS_MS}]]", **how_it_speaks(at)))
    await at.until_asked()
    code, _, err = await at.gateway.ctl("restart", "--timeout", str(CUT_S))
    assert code == MARKED, err
    return await once(at, await asking, fails="restart")


async def crashed(at: Meeting) -> Outcome:
    asking = asyncio.create_task(at.ask(f"[[slow:{ENDLESS_MS}]]", **how_it_speaks(at)))
    await at.until_asked()
    await kill_worker(at.gateway, (await worker_of(at.gateway, at.tag))["slot"])
    return await once(at, await asking, fails="")


async def long_turn(at: Meeting) -> Outcome:
    if at.client.impatient:
        return await once(at, await at.ask(f"[[slow:{LONG_MS}]]"))
    waits_s = WAITS_S if at.client.bounded else None
    return await once(at, await at.ask(f"[[slow:{SHORTENED_MS}]]", timeout_s=waits_s, **how_it_speaks(at)))


ONCE = (
    Situation(title="the model refuses it", needs="", play=refused),
    Situation(title="the model is down", needs="", play=down),
    Situation(title="the model breaks off", needs="", play=broken_off),
    Situation(title="`/stop`", needs="", play=stopped),
    Situation(title="longer than the client waits", needs="", play=long_turn),
    Situation(title="cut by a restart", needs="", play=cut, alone=True),
    Situation(title="cut by a crash", needs="", play=crashed, alone=True),
)


def can(client: Client, situation: Situation) -> bool:
    """Whether the situation is to be tried with the client."""
    return not situation.needs or situation.needs in client.can
