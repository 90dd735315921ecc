"""Why a turn came to no answer, and what follows from it: data, and pure.

A status says little: the same 400 means an empty account here and a picture there. So what a provider said is given a
cause first (:mod:`workers.models.signs`), and :data:`TREATMENTS` says of each cause what is done. The page
``docs/reference/failures.md`` is drawn from both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """Why there is no answer."""

    MODEL = "model"  # the provider does not know the model, or not for this account
    KEY = "key"  # it refuses the key
    ACCOUNT = "account"  # nothing is left to pay with, or the account is closed
    CONTEXT = "context"  # the conversation is longer than the model takes
    PICTURE = "picture"  # the model takes no pictures
    TOOLS = "tools"  # the provider refuses the tools that it is offered
    CONTENT = "content"  # it refuses this very message: its filter, a broken picture, a text too long for its field
    REQUEST = "request"  # it refuses the request for another reason
    RATE = "rate"  # too much in too little time
    DOWN = "down"  # it cannot be reached, breaks off, or fails inside
    MALFORMED = "malformed"  # what it answers is no chat completion
    TIMEOUT = "timeout"  # it says nothing for too long
    MAX_TURNS = "max_turns"  # no provider's: the agent called tools without end
    BUG = "bug"  # no provider's: the gateway failed inside


class Again(StrEnum):
    """Whether the same provider is asked again in the same turn."""

    NO = "no"
    SMALLER = "once, compacted"
    WITHOUT = "once, without what was refused"
    IN_TIME = "for 10 s"  # workers.models.retry has the exact rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """What follows from a cause."""

    again: Again
    next_provider: bool  # whether a fallback may answer what this provider did not
    kept: bool = True  # whether the message stays in what later requests carry
    http_status: int  # what an HTTP caller gets
    code: str = "provider_error"  # of the error, for programs
    may_pass: bool = False  # the same message may be answered later, with nothing changed
    advice: str  # what to do, in one line; {model}, {key_env}, {length} are filled in


_LATER = "send the message again later (/retry)"

TREATMENTS: Mapping[Cause, Treatment] = {
    Cause.MODEL: Treatment(
        again=Again.NO,
        next_provider=True,
        http_status=400,
        advice="check the model id {model} and base_url, or choose another model with /model",
    ),
    Cause.KEY: Treatment(
        again=Again.NO, next_provider=True, http_status=400, advice="the key was refused: check {key_env}"
    ),
    Cause.ACCOUNT: Treatment(
        again=Again.NO,
        next_provider=True,
        http_status=400,
        advice="check the plan of the provider's account, or choose another model with /model",
    ),
    Cause.CONTEXT: Treatment(
        again=Again.SMALLER,
        next_provider=True,
        http_status=400,
        advice="the conversation is too long for this model{length}: "
        "/compress makes it shorter, /reset begins a fresh one",
    ),
    Cause.PICTURE: Treatment(
        again=Again.WITHOUT,
        next_provider=True,
        http_status=400,
        advice="this model takes no pictures: choose another one with /model, or leave the picture out",
    ),
    Cause.TOOLS: Treatment(
        again=Again.WITHOUT,
        next_provider=True,
        http_status=400,
        advice="the provider refuses a tool that it is offered: leave it out with mcp_servers.<server>.tools.exclude",
    ),
    Cause.CONTENT: Treatment(
        again=Again.NO,
        next_provider=False,
        kept=False,
        http_status=400,
        advice="change the message; later requests leave it out",
    ),
    Cause.REQUEST: Treatment(
        again=Again.NO,
        next_provider=True,
        http_status=400,
        advice="see what the provider says; choose another model with /model, or begin a fresh conversation with "
        "/reset",
    ),
    Cause.RATE: Treatment(
        again=Again.IN_TIME,
        next_provider=True,
        http_status=429,
        code="rate_limited",
        may_pass=True,
        advice="wait, then send the message again",
    ),
    Cause.DOWN: Treatment(again=Again.IN_TIME, next_provider=True, http_status=502, may_pass=True, advice=_LATER),
    Cause.MALFORMED: Treatment(
        again=Again.IN_TIME,
        next_provider=True,
        http_status=502,
        may_pass=True,
        advice="check base_url: what answers there is no chat-completions API, or not a whole one; else " + _LATER,
    ),
    Cause.TIMEOUT: Treatment(
        again=Again.NO,
        next_provider=True,
        http_status=504,
        code="provider_timeout",
        may_pass=True,
        advice="send the message again (/retry), or raise the model's time-outs",
    ),
    Cause.MAX_TURNS: Treatment(
        again=Again.NO,
        next_provider=False,
        http_status=400,
        code="max_turns",
        advice="ask for a smaller step, or raise agent.max_turns",
    ),
    Cause.BUG: Treatment(
        again=Again.NO, next_provider=False, http_status=500, code="internal_error", advice="send the message again"
    ),
}
