"""What a command in a message does: answered by the session's owner, without a model."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Literal

import structlog

from hermes_actors.config.model import Compaction as CompactionSettings
from hermes_actors.wire.refusals import RefusalCode
from workers.models.chain import ModelLine
from workers.models.context import rows_size
from workers.runtimes.chat.compaction import NoSummary, compact
from workers.runtimes.transcript import came_with
from workers.sessions.actor import contained
from workers.sessions.agent import Resident
from workers.sessions.agent_config import AgentConfig
from workers.sessions.commands import Command, help_text
from workers.sessions.feed import TurnFeed
from workers.sessions.notes import status_lines, summary_words, suspended_line
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.residents import Residents
from workers.sessions.session import Session
from workers.sessions.turn import TurnRun
from workers.sessions.work import Work
from workers.store.shard import StoreFailed
from workers.tools.toolbox import Aborted
from workers.turn_errors import (
    error_data,
    local_error,
    not_done_error,
    stopped_error,
    store_error,
)
from workers.turns import Ended, PastTurn, Refusal, Submission, TurnError

log = structlog.get_logger(__name__)

STOP_TIMEOUT_S = 8.0  # for a stopped turn to end: the grace of its tools, and a commit
NOTHING_RUNS = "Nothing is running here."
NAME = "hermes-actors"  # who answers
IN_SESSIONS_ONLY = (
    "This conversation is kept by your client, not here: send X-Hermes-Session-Id to talk in a session of the gateway."
)


class CommandRun(Work):
    """A command that waits for its turn in the mailbox. Nothing of it is kept."""

    is_turn = False

    def __init__(self, submission: Submission, command: Command) -> None:
        feed = TurnFeed(submission.turn_id, submission.fingerprint)
        super().__init__(submission, feed, queued=True, stored=True)
        self._command = command
        self._compressing: asyncio.Task[str | BaseException] | None = None

    def stop(self) -> None:
        """End a summary that the model writes; other commands take no time."""
        if self._compressing is not None:
            self._compressing.cancel()

    def leave(self, session_id: str, why: TurnError | None = None) -> None:
        self.feed.end(answer(self.submission, session_id, "interrupted", "", why or not_done_error()))

    async def perform(self, session: Session, agent_config: AgentConfig, line: ModelLine) -> Work | None:
        try:
            if self.cutoff is not None:
                self._end(session, "cancelled", error=self.cutoff.error)
            elif session.stateless:
                self._end(session, "completed", IN_SESSIONS_ONLY)
            elif self._command.word == "retry":
                return await self._retry(session)
            elif self._command.word == "compress":
                await self._compress(session, agent_config, line)
            else:
                self._end(session, "completed", await self._run(session, line))
        except StoreFailed as error:
            log.error("command not stored", session=session.key, command=self._command.word, why=str(error))  # noqa: TRY400  # says it all
            self._end(session, "failed", error=store_error())
        except Refusal as refusal:
            self._end(session, "failed", error=local_error(refusal.code, refusal.why, http_status=503))
        return None

    async def interrupt(self, session: Session) -> None:
        if self.feed.ended is None:
            self._end(session, "failed", error=local_error("internal_error", "The command failed.", http_status=500))

    async def _run(self, session: Session, line: ModelLine) -> str:
        match self._command.word:
            case "model":
                return await self._model(session, line)
            case "new" | "reset":
                return await self._reset(session)
            case "resume":
                return await self._resume(session)
            case word:
                raise ValueError(f"/{word} does not wait in a mailbox")

    async def _model(self, session: Session, line: ModelLine) -> str:
        wanted = self._command.argument
        if not wanted:
            chosen = f"{session.model}, chosen with /model" if session.model else f"{line.model}, as configured"
            answered = f" The last answer is of {session.answered_by}." if session.answered_by else ""
            return f"The model of this session is {chosen}.{answered}"
        model = None if wanted == "default" else wanted
        await session.store.choose_model(session.key, model)
        session.model = model
        session.answered_by = ""
        if model is None:
            return "The model of this session is the configured one again."
        return f"The model of this session is {wanted} from now on. /model default undoes this."

    async def _reset(self, session: Session) -> str:
        earlier = session.session_id
        await session.reset()
        return f"This is a fresh conversation. The earlier one is kept as {earlier}."

    async def _resume(self, session: Session) -> str:
        left = session.session_id
        try:
            await session.restore()
        except Refusal as refusal:
            if refusal.code != RefusalCode.SESSION_NOT_FOUND:
                raise
            return f"There is nothing to resume: no earlier conversation was set aside. This one is {left}."
        turns = session.turns
        text = f"The conversation {session.session_id} is back, with {turns} turn{'s' if turns != 1 else ''}."
        return text if left == session.session_id else f"{text} The one until now is kept as {left}."

    async def _retry(self, session: Session) -> Work | None:
        """Send the last message again, as a turn of its own that takes the place of the earlier one."""
        await session.store_unstored()  # the last turn may be one of these
        if not session.past:
            self._end(session, "completed", "There is no message to send again.")
            return None
        return RetriedTurn(self.submission, self.feed, session.past[-1])

    async def _compress(self, session: Session, agent_config: AgentConfig, line: ModelLine) -> None:
        """Have the model summarise all but the newest turns, now."""
        self._compressing = asyncio.create_task(contained(compressed, session, agent_config, line))
        try:
            outcome = await self._compressing
        except asyncio.CancelledError:
            if self.cutoff is None:
                raise
            self._end(session, "cancelled", error=self.cutoff.error)
            return
        if isinstance(outcome, BaseException):
            raise outcome
        self._end(session, "completed", outcome)

    def _end(
        self,
        session: Session,
        state: Literal["completed", "cancelled", "failed"],
        text: str = "",
        error: TurnError | None = None,
    ) -> None:
        self.feed.end(answer(self.submission, session.session_id, state, text, error))


class RetriedTurn(TurnRun):
    """A turn that sends the last message again, and takes the place of the turn before.

    Args:
        submission: of the command.
        feed: of the command.
        last: the turn before.
    """

    def __init__(self, submission: Submission, feed: TurnFeed, last: PastTurn) -> None:
        super().__init__(replace(submission, messages=came_with(last.rows)), feed, queued=False)
        self._last = last
        self.sent = submission.messages

    async def perform(self, session: Session, agent_config: AgentConfig, line: ModelLine) -> Work | None:
        try:
            await session.store.admit(self.submission, session.session_id, "running", instead_of=self._last.turn_id)
        except StoreFailed as error:
            log.error("command not stored", session=session.key, command="retry", why=str(error))  # noqa: TRY400  # says it all
            self.feed.end(answer(self.submission, session.session_id, "failed", "", store_error()))
            return None
        self.stored = True
        session.retracted(self._last.turn_id)
        return await super().perform(session, agent_config, line)

    async def interrupt(self, session: Session) -> None:
        if self.stored:
            await super().interrupt(session)
        elif self.feed.ended is None:
            error = local_error("internal_error", "The command failed.", http_status=500)
            self.feed.end(answer(self.submission, session.session_id, "failed", "", error))


def answer(
    submission: Submission,
    session_id: str,
    state: Literal["completed", "cancelled", "failed", "interrupted"],
    text: str,
    error: TurnError | None = None,
) -> Ended:
    """The end of a command as its caller gets it."""
    return Ended(
        turn_id=submission.turn_id,
        session_id=session_id,
        state=state,
        text=text,
        finish_reason="error" if error else "stop",
        usage={},
        model=NAME,
        error=error_data(error),
        replayed=False,
    )


async def answer_at_once(command: Command, submission: Submission, sessions: Residents, shard: OwnedShard) -> TurnFeed:
    """Answer /help, /status or /stop, whatever runs; a passivated session stays passivated."""
    if command.word == "help":
        return at_once(submission, "", help_text(await sessions.prompts(submission.key)))
    resident = await sessions.present(submission.key)
    if resident is not None:
        if command.word == "stop":
            text = await stop(resident)
        else:
            await resident.session.reread_marks()
            text = status(resident, sessions.agent_config.stuck_threshold)
        return at_once(submission, resident.session.session_id, text)
    if command.word == "stop":
        return at_once(submission, "", NOTHING_RUNS)
    return at_once(submission, *await _asleep(submission, sessions, shard))


async def _asleep(submission: Submission, sessions: Residents, shard: OwnedShard) -> tuple[str, str]:
    """The id of a session that is not in memory, and what it carries, in words."""
    key = f"session   {submission.key}"
    if submission.stateless:
        return "", f"{key}\nstate     passivated, or new"
    try:
        record = await sessions.record(submission.key, shard)
    except Refusal as refusal:
        if refusal.code == RefusalCode.SESSION_NOT_FOUND:
            return "", f"{key}\nstate     not begun"
        return "", f"{key}\nstate     passivated, or new; its marks are not known now: {refusal.why}"
    lines = [key, f"id        {record.session_id}", "state     passivated; the next message activates it"]
    lines += status_lines(record.marks, now=time.time(), threshold=sessions.agent_config.stuck_threshold)
    if record.suspended is not None:
        lines.append(suspended_line(record.suspended, now=time.time()))
    return record.session_id, "\n".join(lines)


def at_once(submission: Submission, session_id: str, text: str) -> TurnFeed:
    """An answer that is over when it is given."""
    feed = TurnFeed(submission.turn_id, submission.fingerprint)
    feed.end(answer(submission, session_id, "completed", text))
    return feed


async def compressed(session: Session, agent_config: AgentConfig, line: ModelLine) -> str:
    """Summarise all but the newest turns of a conversation; what came of it, in words.

    Raises:
        StoreFailed: the summary could not be stored; nothing changed.
    """
    kept = (agent_config.compaction or CompactionSettings()).keep_turns
    turns = min(len(session.past) - 1, max(len(session.past) - kept, 0))
    if turns <= 0:
        return f"There is nothing to summarise: the newest {_turns(kept)} of a conversation stay as they are."
    before = sum(rows_size(turn.rows) for turn in session.past[:turns])
    try:
        await compact(session, await line.who(session.model), turns)
    except NoSummary as error:
        return f"The model wrote no summary, so nothing changed: {error}"
    assert session.summary is not None
    after = len(session.summary.text.encode())
    return (
        f"The first {_turns(session.summary.turns)} of this conversation are summarised now: {before:,} bytes became "
        f"{after:,}. The newest {_turns(len(session.past))} stay as they are. The transcript keeps everything."
    )


def restart_words(*, allowed: bool, draining: bool) -> str:
    """The answer to /restart, before anything happens."""
    if not allowed:
        return "Only administrators may restart the gateway: its configuration names them in api_server.admins."
    if draining:
        return (
            "The gateway already drains: it restarts, stops or holds once the running turns end, or their time is up. "
            "This command changed nothing."
        )
    return (
        "The gateway is going to restart. Once it is ready for that, in some seconds, no turn begins any more. Turns "
        "that run may go on for agent.restart_drain_timeout seconds; what is not over then is cut, and its session "
        "goes on with its next message. No turn of this session is waited for. Messages that wait run after the "
        "restart. If code or configuration cannot be started, everything goes on, and the gateway's log says why."
    )


async def stop(resident: Resident) -> str:
    """End the turn that runs, for good; those that wait come next."""
    running = resident.mailbox.next
    waiting = len(resident.mailbox.items)
    if running is None:
        return NOTHING_RUNS + (f" {_messages(waiting)} waiting." if waiting else "")
    if not await _stopped(resident, running, "with /stop"):
        return "The turn is stopping, but takes long to end."
    items = resident.mailbox.items
    waiting = len(items) - (1 if running.turn_id in items else 0)
    parts = ("Stopped.", _servers(running.aborted), f"{_messages(waiting)} waiting." if waiting else "")
    return " ".join(part for part in parts if part)


def _servers(aborted: Aborted) -> str:
    """What a stop meant for the tool servers whose calls it cancelled, with the state that they keep."""
    servers = {"Ended with it": aborted.ended, "Kept": aborted.kept}
    return " ".join(f"{what}: {', '.join(names)}." for what, names in servers.items() if names)


async def stop_turn(resident: Resident) -> bool:
    """End the turn that runs, for an operator; whether one did, and is over."""
    running = resident.mailbox.next
    return running is not None and await _stopped(resident, running, "by the operator")


async def _stopped(resident: Resident, running: Work, how: str) -> bool:
    over = asyncio.Event()
    running.feed.listen(lambda _: over.set(), stream=False)
    resident.cancel(running.turn_id, stopped_error(how))
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await over.wait()
    except TimeoutError:
        log.error("stopped turn did not end", session=resident.session.key, seconds=STOP_TIMEOUT_S)  # noqa: TRY400
        return False
    return True


def status(resident: Resident, stuck_threshold: int) -> str:
    """What a session is doing, and what it carries, in words."""
    session = resident.session
    works = list(resident.mailbox.items.values())
    doing = "idle"
    if works:
        doing = f"running {works[0].turn_id}" if works[0].started else "about to run"
        if resident.mailbox.paused and not works[0].begun:
            doing = "waiting for the end of the gateway's drain"
        if len(works) > 1:
            doing += f", {_messages(len(works) - 1)} waiting"
    lines = [f"session   {session.key}", f"id        {session.session_id}", f"state     {doing}"]
    lines.append(f"model     {session.model + ' (chosen with /model)' if session.model else 'as configured'}")
    if not session.stateless:
        lines.append(f"turns     {session.turns} in this conversation")
        if session.summary is not None:
            lines.append(f"summary   {summary_words(session.summary, now=time.time())}")
    if session.toolbox.notice:
        lines.append(f"tools     {session.toolbox.notice}")
    lines += status_lines(session.marks, now=time.time(), threshold=stuck_threshold)
    return "\n".join(lines)


def _turns(number: int) -> str:
    return f"{number} turn{'s' if number != 1 else ''}"


def _messages(number: int) -> str:
    return f"{number} message{'s' if number != 1 else ''}"
