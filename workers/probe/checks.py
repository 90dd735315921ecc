"""What the answers of a model say about it, purely: what it does, what will hurt, and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import orjson

from workers.models.cause import Cause
from workers.models.failure import advice_of
from workers.models.oddities import is_call_as_text
from workers.models.offer import OfferedTool, offer
from workers.models.provider import ModelFailure, ModelReply

Level: TypeAlias = Literal["ok", "note", "bad"]  # bad: something would fail, or be missing, in every turn
Outcome: TypeAlias = ModelReply | ModelFailure

MAX_WORDS_CHARS = 200
PING = offer(
    [
        OfferedTool(
            name="ping",
            server="probe",
            tool="ping",
            definition=orjson.dumps(
                {
                    "type": "function",
                    "function": {
                        "name": "ping",
                        "description": "Tests the connection. Call it when you are asked to.",
                        "parameters": {
                            "type": "object",
                            "properties": {"text": {"type": "string", "description": "Any word."}},
                            "required": ["text"],
                        },
                    },
                }
            ),
            description_chars=0,
        )
    ]
)
WINDOW_FOR_AGENTS = 8192  # tokens; below it a few tools and their results fill a request


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    what: str  # answers | stream | tokens | tools | pictures | wrong model id | window | …
    level: Level
    seen: str  # what was seen, for people
    remedy: str = ""  # what to do about it; empty where nothing is to be done


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAnswers:
    """What a model did when it was asked."""

    plain: Outcome
    pieces: int = 0  # in which the plain answer came
    seconds: float = 0.0  # that it took
    tool: Outcome | None = None  # None: not asked, since the plain question failed
    picture: Outcome | None = None  # nor where the configuration says that the model has no eyes
    wrong_model: Outcome | None = None
    window: int | None = None  # tokens, as the provider's list of models states it


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedConfig:
    """What the configuration says of the model."""

    model: str
    has_tools: bool  # tool servers are configured
    context_length: int | None = None
    vision: bool | None = None


def checks_of(seen: ProbeAnswers, wanted: ProbedConfig) -> Iterator[Check]:
    """What is to be said of a model, the most important first."""
    yield from _answers(seen, wanted)
    if isinstance(seen.plain, ModelFailure):
        return
    yield _stream(seen)
    yield _tokens(seen.plain)
    yield from _window(seen.window, wanted)
    if seen.tool is not None:
        yield _tools(seen.tool, wanted)
    if seen.picture is not None:
        yield _pictures(seen.picture, wanted)
    if seen.wrong_model is not None:
        yield _wrong_model(seen.wrong_model)


def _answers(seen: ProbeAnswers, wanted: ProbedConfig) -> Iterator[Check]:
    plain = seen.plain
    if isinstance(plain, ModelFailure):
        yield Check(what="answers", level="bad", seen=_failed(plain), remedy=advice_of(plain))
        return
    named = "" if plain.model == wanted.model else f"; it names itself {plain.model}"
    if not plain.text.strip():
        yield Check(
            what="answers",
            level="note",
            seen=f"an empty answer after {seen.seconds:.1f} s{named}",
            remedy="if this goes on: a larger max_tokens, or another chat template of the server",
        )
        return
    yield Check(what="answers", level="ok", seen=f"in {seen.seconds:.1f} s{named}")


def _stream(seen: ProbeAnswers) -> Check:
    if seen.pieces > 1:
        return Check(what="stream", level="ok", seen=f"the answer came in {seen.pieces} pieces")
    return Check(
        what="stream",
        level="note",
        seen="the whole answer came in one piece",
        remedy="people who stream see nothing before the end; a proxy in between may collect the answer",
    )


def _tokens(plain: ModelReply) -> Check:
    if counted := plain.usage.get("prompt_tokens"):
        return Check(what="tokens", level="ok", seen=f"counted: {counted} in the question")
    return Check(
        what="tokens",
        level="note",
        seen="not counted: usage is 0 in answers",
        remedy="set context_length; the size of a conversation is then estimated from its bytes alone",
    )


def _window(stated: int | None, wanted: ProbedConfig) -> Iterator[Check]:
    configured = wanted.context_length
    if stated is None and configured is None:
        yield Check(
            what="window",
            level="note",
            seen="the server does not state it",
            remedy="set context_length; else it is learned when a request is refused",
        )
    elif stated is not None and configured is not None and stated < configured:
        yield Check(
            what="window",
            level="note",
            seen=f"{stated:,} tokens, but context_length says {configured:,}",
            remedy=f"set context_length to {stated}",
        )
    else:
        window = configured or stated or 0
        by = "as configured" if configured else "as the server states"
        small = window < WINDOW_FOR_AGENTS and wanted.has_tools
        yield Check(
            what="window",
            level="note" if small else "ok",
            seen=f"{window:,} tokens, {by}",
            remedy="tools and their results fill it soon: start the server with a larger one" if small else "",
        )


def _tools(outcome: Outcome, wanted: ProbedConfig) -> Check:
    if isinstance(outcome, ModelFailure):
        if outcome.cause is Cause.TOOLS:
            return Check(
                what="tools",
                level="bad" if wanted.has_tools else "note",
                seen=f"refused: {_words(outcome.text)}",
                remedy="start the server with tool calls enabled (vLLM: --enable-auto-tool-choice and "
                "--tool-call-parser; llama.cpp: --jinja), or remove mcp_servers",
            )
        return Check(what="tools", level="note", seen=_failed(outcome), remedy=advice_of(outcome))
    if outcome.tool_calls:
        return Check(what="tools", level="ok", seen="called, and the call was understood")
    if is_call_as_text(outcome.text, PING):
        return Check(
            what="tools",
            level="bad" if wanted.has_tools else "note",
            seen="the call came as text, so no tool would be called",
            remedy="choose the tool parser of the server that fits this model",
        )
    return Check(
        what="tools",
        level="note",
        seen="taken, but the model did not call the tool that it was asked to call",
        remedy="a model that was trained to call tools does; try one, or ask it again",
    )


def _pictures(outcome: Outcome, wanted: ProbedConfig) -> Check:
    if isinstance(outcome, ModelReply):
        if "red" in outcome.text.lower():
            return Check(what="pictures", level="ok", seen="taken, and seen")
        return Check(
            what="pictures",
            level="note",
            seen="taken, but the answer does not show that the model saw the picture",
            remedy="if the model has no eyes, set vision: false, so that it reads that there was a picture instead",
        )
    if wanted.vision:
        remedy = "vision: true in the configuration is wrong: set it to false"
    else:
        remedy = "a line takes the place of each picture; set vision: false to spare the first refusal"
    return Check(what="pictures", level="note", seen=f"refused: {_words(outcome.text)}", remedy=remedy)


def _wrong_model(outcome: Outcome) -> Check:
    if isinstance(outcome, ModelFailure):
        level: Level = "ok" if outcome.cause is Cause.MODEL else "note"
        return Check(what="wrong model id", level=level, seen=f"refused: {_words(outcome.text)}")
    return Check(
        what="wrong model id",
        level="note",
        seen=f"answered by {outcome.model}",
        remedy="a typing error in a model id, or after /model, goes unnoticed: check the id twice",
    )


def _failed(failure: ModelFailure) -> str:
    status = f"HTTP {failure.status}: " if failure.status is not None else ""
    return f"{status}{_words(failure.text)}"


def _words(text: str) -> str:
    return text if len(text) <= MAX_WORDS_CHARS else f"{text[:MAX_WORDS_CHARS]}…"
