"""Why a session has its mark and strikes: what happened to it, in order, each with the rule behind it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from hermes_actors.core.sessions.lives import Incident, Life
from hermes_actors.core.sessions.marks import Standing
from hermes_actors.core.state import SessionEntry
from hermes_actors.operations.results import Loss
from hermes_actors.times import moment

_DRAINS = {
    "restart_timeout": "a planned restart reached its deadline",
    "shutdown_timeout": "a stop or drain reached its deadline",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What is known of a session and of the lives of the supervisor. Times are seconds since the epoch."""

    entry: SessionEntry
    incidents: Sequence[Incident]  # the oldest first
    losses: Sequence[Loss]  # of its shard's file since it began, the oldest first
    untold: Loss | None  # that its person does not know of
    lives: Sequence[Life]  # the latest first
    strikes: int
    threshold: int  # supervisor.stuck_threshold, as those below of the configuration as it is now
    drain_timeout_s: float
    fresh_s: float
    heartbeat_s: float
    running: bool  # whether a supervisor is there now


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Something that happened."""

    at: float
    what: str
    rule: str = ""  # that made it so; a start has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a person can do."""

    do: str  # a command, or what to write in the session
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A configuration key that would have changed it."""

    key: str
    value: float
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The answer to ``hermes-ctl why``."""

    key: str
    session_id: str
    standing: str
    strikes: int
    threshold: int
    lines: tuple[Line, ...]
    next: tuple[str, ...]
    actions: tuple[Action, ...]
    settings: tuple[Setting, ...]


def story(records: Records, now: float) -> Story:
    """What happened, what happens next, what can be done, and which settings matter."""
    entry = records.entry
    return Story(
        key=entry.key,
        session_id=entry.session_id,
        standing=entry.marks.standing.value,
        strikes=records.strikes,
        threshold=records.threshold,
        lines=tuple(_with_losses(list(_lines(records)), records.losses)),
        next=tuple(_next(records, now)),
        actions=tuple(_actions(records)),
        settings=tuple(_settings(records)),
    )


# -- what happened -----------------------------------------------------------------------------------------------------


def _lines(records: Records) -> Iterator[Line]:
    """In the order of the records, not of their times: clocks are set back."""
    starts = {
        life.boot: Line(at=life.started_at, what=f"the supervisor started{_after(before)}")
        for life, before in zip_longest(records.lives, records.lives[1:])
    }
    for incident in records.incidents:
        if incident.boot in starts:
            yield starts.pop(incident.boot)
        yield _line(incident, records.lives)


def _with_losses(lines: list[Line], losses: Sequence[Loss]) -> list[Line]:
    """Losses have numbers of their own: each comes before the first line that is later."""
    for loss in losses:
        place = next((at for at, line in enumerate(lines) if line.at > loss.at), len(lines))
        rule = "a shard that lost something continues with what is left"
        lines.insert(place, Line(at=loss.at, what=_lost(loss), rule=rule))
    return lines


def _lost(loss: Loss) -> str:
    """What the file of a session's shard lost."""
    kept = f"; the damaged file is kept as {loss.set_aside}" if loss.set_aside else ""
    if loss.what == "all":
        gone = "what was said in this session before is lost"
    elif loss.until is None:
        gone = "the end of what was said in this session may be missing"
    else:
        gone = f"what was said in this session after {moment(loss.until)} may be missing"
    return f"shard {loss.shard} lost something: {gone}. Why: {loss.why}{kept}"


def _after(before: Life | None) -> str:
    """How the life before had ended."""
    if before is None:
        return ""
    if before.ended_at is not None:
        return ", in place of one that it restarted" if before.how == "restart" else "; the one before had been stopped"
    during = " during a stop, restart or hold" if before.stop_began_at is not None else ""
    return f"; the one before had died{during}, or the machine had"


def _line(incident: Incident, lives: Sequence[Life]) -> Line:
    what, rule = _told(incident, lives)
    return Line(at=incident.at, what=what, rule=rule)


def _told(incident: Incident, lives: Sequence[Life]) -> tuple[str, str]:
    """An incident in words, and its rule."""
    count = f"strike {incident.strikes} of {incident.threshold}"
    match incident.what:
        case "cut":
            return (
                f"{_cause(incident, lives)} and cut turn {incident.turn_id}: {count}",
                "each restart or crash that cuts a running turn is one strike; the session is to be resumed",
            )
        case "suspended" if incident.strikes >= incident.threshold:
            return (
                f"suspended after {incident.strikes} cuts in a row; transcript {incident.session_id} is kept",
                "supervisor.stuck_threshold strikes without a success between them suspend",
            )
        case "suspended":
            return f"an operator suspended it; transcript {incident.session_id} is kept", "sessions suspend"
        case "fresh":
            return (
                f"a message came: a fresh transcript began; {incident.session_id} is kept",
                "the next message to a suspended session starts fresh, and its reply says so",
            )
        case "succeeded":
            return f"turn {incident.turn_id} succeeded: marks and strikes are gone", "a delivered success clears both"
        case "reset":
            return (
                f"it was reset: a fresh transcript began in place of {incident.session_id}",
                "/new, /reset and sessions reset clear marks and strikes",
            )
        case "resumed":
            return "the transcript that was set aside came back", "/resume, or sessions resume"
        case "cleared":
            return "an operator cleared its strikes", "ledger clear; marks stay"
        case "idle":
            return (
                "it was idle at a stop or start: its strikes are cleared",
                "an idle session did not cause the restart",
            )
        case "found":
            return (
                f"the registry had lost this session: it was found again with transcript {incident.session_id}",
                "a registry that lost sessions is completed from the shard files; suspensions are not in those",
            )
        case "told":
            return f"the reply of turn {incident.turn_id} said what was lost", "the next reply after a loss says so"


def _cause(incident: Incident, lives: Sequence[Life]) -> str:
    """What cut a turn."""
    if incident.reason in _DRAINS:
        return _DRAINS[incident.reason]
    for life, before in pairwise(lives):
        recovering = incident.at <= (life.settled_at or incident.at)
        if life.boot == incident.boot and recovering and before.ended_at is None:
            return "the supervisor died"
    return "its worker died, or hung and was killed,"


# -- what happens next -------------------------------------------------------------------------------------------------


def _next(records: Records, now: float) -> Iterator[str]:
    marks, strikes, threshold = records.entry.marks, records.strikes, records.threshold
    match marks.standing:
        case Standing.RESUME_PENDING | Standing.CLEAR if strikes >= threshold:
            yield f"it was cut {strikes} times in a row: the next start, or that of its worker, suspends it"
            yield "the message after that starts a fresh transcript, and its reply says why"
        case Standing.SUSPENDED:
            yield "the next message starts a fresh transcript, and its reply says why"
        case Standing.RESUME_PENDING:
            stale = now - (marks.at or now) > records.fresh_s
            told = "as history only, for it is long ago" if stale else "and asked to continue from there"
            yield f"the next message continues this transcript; the model is informed of the cut, {told}"
        case Standing.CLEAR if marks.untold_reason is not None:
            yield f"the next reply says that a fresh transcript began; the earlier one, {marks.former_id}, is kept"
        case Standing.CLEAR:
            yield "the next message continues this transcript"
    if records.untold is not None:
        yield "the next reply says what was lost"
    if strikes:
        yield "a turn that succeeds clears the strikes" + (" and the mark" if not marks.plain else "")
        left = threshold - strikes
        if left > 0:
            yield "one more cut suspends it" if left == 1 else f"{left} more cuts in a row suspend it"
    if not records.running and records.lives and records.lives[0].ended_at is None:
        yield "the last supervisor died: the next start counts what it was running as cut"


def _actions(records: Records) -> Iterator[Action]:
    marks, key = records.entry.marks, records.entry.key
    if marks.standing is Standing.SUSPENDED:
        yield Action(do=f"hermes-ctl sessions resume {key}", effect="goes on with the transcript that is kept")
    elif marks.former_id is not None:
        yield Action(do="/resume", effect=f"as a message in the session: brings {marks.former_id} back")
        yield Action(do=f"hermes-ctl sessions resume {key}", effect="the same, from here")
    if marks.standing is Standing.RESUME_PENDING:
        yield Action(do=f"hermes-ctl sessions reset {key}", effect="starts fresh at once, without mark and strikes")
    if records.strikes:
        yield Action(do=f"hermes-ctl ledger clear {key}", effect="clears the strikes; the mark stays")


def _settings(records: Records) -> Iterator[Setting]:
    cuts = [incident for incident in records.incidents if incident.what == "cut"]
    if cuts or records.strikes:
        meaning = "how many cuts in a row suspend a session"
        yield Setting(key="supervisor.stuck_threshold", value=records.threshold, meaning=meaning)
    if any(incident.reason in _DRAINS for incident in cuts):
        meaning = "s, what running turns get at a stop or restart before they are cut"
        yield Setting(key="agent.restart_drain_timeout", value=records.drain_timeout_s, meaning=meaning)
    if any(_cause(incident, records.lives).startswith("its worker") for incident in cuts):
        meaning = "s, a worker that is silent for three times this long is killed as hung"
        yield Setting(key="supervisor.heartbeat_seconds", value=records.heartbeat_s, meaning=meaning)
    if records.entry.marks.standing is Standing.RESUME_PENDING:
        meaning = "s, a cut that is older than this is mentioned as history"
        yield Setting(key="sessions.resume_fresh_seconds", value=records.fresh_s, meaning=meaning)
