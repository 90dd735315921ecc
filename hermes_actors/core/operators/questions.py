"""Questions to workers: asked of one or of many, answered when all have answered, are gone, or took too long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

from hermes_actors.core.drain import plan
from hermes_actors.core.effects import About, Effect, Log, Reply, ReplyPlan, ReplySession, SendQuery
from hermes_actors.core.events import OperatorAsked, QueryAnswered, SessionsFound
from hermes_actors.core.operators.views import drain_shown
from hermes_actors.core.pool.lifecycle import Alarm, Result
from hermes_actors.core.state import (
    Changed,
    ListConnections,
    PlanDrain,
    Process,
    Question,
    Reconfigured,
    RestartServer,
    SessionEntry,
    ShowDrain,
    ShowSession,
    State,
    StopTurn,
    Wanted,
)

QUERY_TIMEOUT_S = 3.0  # for the workers' answers


def query(
    state: State,
    asker: OperatorAsked | SessionsFound,
    wanted: Wanted,
    to: tuple[Process, ...],
    about: About,
    key: str,
    now: float,
) -> Result:
    """Ask workers something for an operator, who hears what they say; ``about`` and ``key``: as they are asked."""
    state, number = await_answers(state, asker.client, asker.request, wanted, to, now)
    return state, (SendQuery(to=to, request=number, about=about, key=key),) if to else ()


def await_answers(
    state: State, client: int | None, request: int, wanted: Wanted, to: tuple[Process, ...], now: float
) -> tuple[State, int]:
    """Wait for the answers of processes; with the request id that they are to repeat."""
    number = state.asked + 1
    question = Question(
        client=client, request=request, wanted=wanted, deadline=now + QUERY_TIMEOUT_S, waiting=frozenset(to)
    )
    return replace(state, asked=number, questions={**state.questions, number: question}), number


def answered(state: State, event: QueryAnswered) -> Result:
    """Keep a worker's answer; one that comes too late, or of who was not asked, is nobody's."""
    question = state.questions.get(event.request)
    process = Process(event.slot, event.generation)
    if question is None or process not in question.waiting:
        return state, ()
    known = event.data if event.found else {}
    heard = replace(question, waiting=question.waiting - {process}, answers={**question.answers, event.slot: known})
    return replace(state, questions={**state.questions, event.request: heard}), ()


def settle(state: State, now: float) -> Result:
    """Answer the operators whose questions wait for nobody any more, or have waited long enough."""
    live = frozenset(state.live)
    over = {
        number: question
        for number, question in state.questions.items()
        if now >= question.deadline or question.waiting.isdisjoint(live)
    }
    if not over:
        return state, ()
    left = {number: question for number, question in state.questions.items() if number not in over}
    return replace(state, questions=left), tuple(_concluded(state, question, now) for question in over.values())


def alarms(state: State) -> list[Alarm]:
    """When questions are answered without those who still say nothing: :func:`settle` does it, after every event."""
    return [(question.deadline, lambda later, _: (later, ())) for question in state.questions.values()]


def _concluded(state: State, question: Question, now: float) -> Effect:
    match question.wanted:
        case ShowSession(entry=entry):
            return _session(state, question, entry, question.answers.get(state.owners[entry.shard].slot, {}))
        case Changed(entry=entry):
            return _session(state, question, entry, {}, changed=True)
        case PlanDrain(timeout_s=timeout_s):
            return _plan(state, question, timeout_s, now)
        case ShowDrain():
            turns, queued = plan.running(question.answers), plan.queued(question.answers)
            data = {**drain_shown(state, turns, queued, now), "missing": _missing(question)}
        case wanted:
            data = _data(wanted, question)
    if question.client is None:
        return Log(level="info", text="workers told of the configuration", fields={"missing": data["missing"]})
    return Reply(client=question.client, request=question.request, data=data)


def _session(
    state: State, question: Question, entry: SessionEntry, known: Mapping[str, Any], *, changed: bool = False
) -> Effect:
    assert question.client is not None
    return ReplySession(
        client=question.client,
        request=question.request,
        entry=entry,
        changed=changed,
        known=known,
        owners=state.owners,
        up=state.up,
    )


def _plan(state: State, question: Question, timeout_s: float, now: float) -> Effect:
    assert question.client is not None
    planned = plan.Plan(
        timeout_s=timeout_s,
        at=state.wall(now),
        turns=plan.running(question.answers),
        queued=plan.queued(question.answers),
        missing=tuple(_missing(question)),
    )
    return ReplyPlan(client=question.client, request=question.request, plan=planned)


def _missing(question: Question) -> list[int]:
    """The slots of the workers that gave no answer."""
    return sorted(slot for slot, _ in question.waiting)


def _data(wanted: StopTurn | ListConnections | RestartServer | Reconfigured, question: Question) -> dict[str, Any]:
    """What the answers amount to, as in hermes_actors.operators.messages."""
    answers = sorted(question.answers.items())
    missing = _missing(question)
    match wanted:
        case StopTurn():
            return {"stopped": any(known.get("stopped", False) for _, known in answers), "missing": missing}
        case ListConnections():
            rows = [{"worker": slot, **row} for slot, known in answers for row in known.get("mcp", [])]
            return {"connections": rows, "missing": missing}
        case RestartServer():
            return {"restarted": sum(known.get("restarted", 0) for _, known in answers), "missing": missing}
        case Reconfigured(changes=changes):
            return {"changes": [dict(change) for change in changes], "missing": missing}
        case _:
            assert_never(wanted)
