"""Why a turn failed, in words for the person who sent the message: who, which model, what status, what to do."""

from __future__ import annotations

from workers.models.failure import chain_story
from workers.models.provider import ModelFailure
from workers.models.retry import ACCOUNT_CODES, WEB_PAGE
from workers.models.route import is_about_model, is_about_request
from workers.turns import Ended, TurnError, TurnState

_ACCOUNT_ADVICE = "check the plan of the provider's account, or choose another model with /model"
_STATUS_ADVICE = {
    401: "the key was refused: check the provider's key_env variable",
    402: _ACCOUNT_ADVICE,
    403: "the key may not use this model: check the account, or choose another one with /model",
    404: "check base_url and the model id, or choose another one with /model",
    413: "the conversation is too large for this model: /reset begins a fresh one",
}


def failure_error(failure: ModelFailure) -> TurnError:
    """The failure of a provider, or of all in the chain, as the caller gets it: who, which model, why, what to do."""
    if failure.status == 429:
        code, http_status = "rate_limited", 429
    elif failure.kind == "timeout":
        code, http_status = "provider_timeout", 504
    else:
        code, http_status = "provider_error", 502
    return TurnError(
        code=code,
        text=f"No answer from the model.\n{chain_story(failure)}\nWhat to do: {_advice(failure)}.",
        http_status=http_status,
        provider=failure.provider,
        model=failure.model,
        upstream_status=failure.status,
        retry_after_s=failure.retry_after_s,
    )


def _advice(failure: ModelFailure) -> str:
    if is_about_model(failure):
        return "check the model id, or choose another one with /model"
    if is_about_request(failure) and failure.status != 413:
        return "change the message, or begin a fresh conversation with /reset"
    if failure.code in ACCOUNT_CODES:
        return _ACCOUNT_ADVICE
    if failure.code == WEB_PAGE:
        return "check base_url, which leads to a web page"
    if failure.status == 429:
        return "wait, then send the message again"
    if failure.kind == "timeout":
        return "send the message again (/retry), or raise the model's time-outs"
    return _STATUS_ADVICE.get(failure.status or 0, "send the message again later (/retry)")


STORE_FAILED_WORDS = "The gateway could not store it; its log says why. What to do: look at its disk, then try again."


def max_turns_error(limit: int) -> TurnError:
    """The tool loop did not come to an end."""
    return local_error(
        "max_turns",
        f"The agent called tools for {limit} rounds without coming to an answer.\n"
        "What to do: ask for a smaller step, or raise agent.max_turns.",
        http_status=502,
    )


def local_error(code: str, text: str, *, http_status: int) -> TurnError:
    """A failure that no provider is to blame for."""
    return TurnError(
        code=code,
        text=text,
        http_status=http_status,
        provider=None,
        model=None,
        upstream_status=None,
        retry_after_s=None,
    )


def store_error() -> TurnError:
    """The disk is to blame."""
    return local_error("store_failed", STORE_FAILED_WORDS, http_status=500)


_CUT_WORDS = {
    "shutdown_timeout": "The gateway stopped, or was held, while this turn ran.",
    "restart_timeout": "The gateway restarted while this turn ran.",
    "crash": "The gateway's worker died while this turn ran.",
    "moved": "The session moved to another worker while this turn ran.",
}
_AFTER_A_CUT = (
    "The turn is not run again, since its tools may have acted. The conversation is kept: your next message goes on in "
    "it, and the model is told of the interruption. A session that is cut several times in a row begins a fresh "
    "conversation then, and says so; /resume brings the earlier one back. "
    "What to do: look at what the turn did, then send your next message."
)


def cut_error(reason: str) -> TurnError:
    """A turn that a stop, a restart, a crash or a move cut off; its tools may have acted."""
    return local_error("turn_interrupted", f"{_CUT_WORDS[reason]} {_AFTER_A_CUT}", http_status=503)


def waiting_error() -> TurnError:
    """A turn that had not begun at the end of a drain: it is kept."""
    text = (
        "The gateway restarted, stopped or was held before this turn began. "
        "It is kept and runs once, as soon as the gateway serves again. "
        "What to do: read the session's transcript then, or ask again with the same Idempotency-Key."
    )
    return local_error("turn_interrupted", text, http_status=503)


def not_done_error() -> TurnError:
    """A command whose turn had not come at the end of a drain: nothing of it is kept."""
    text = (
        "The gateway restarted, stopped or was held before this command was done. "
        "What to do: send it again once the gateway serves again."
    )
    return local_error("turn_interrupted", text, http_status=503)


def too_large_error() -> TurnError:
    """A reply that is kept, but does not fit into a frame to the worker that holds the caller."""
    text = "The reply is too large to be handed over. It is kept: read it in the session's transcript."
    return local_error("reply_too_large", text, http_status=502)


def stopped_error(how: str) -> TurnError:
    """A turn that was ended for good: ``with /stop``, ``by the operator``."""
    return local_error("turn_cancelled", f"The turn was stopped {how}.", http_status=409)


def deleted_error() -> TurnError:
    """A turn whose session was deleted."""
    return local_error("turn_cancelled", "The session was deleted while this turn ran.", http_status=409)


def evicted_error() -> TurnError:
    """A turn whose session the operator suspended, resumed or reset."""
    text = (
        "The operator changed this session while the turn ran or waited (suspended, resumed or reset it). "
        "What to do: look at what the turn did, then send your next message."
    )
    return local_error("turn_cancelled", text, http_status=409)


def not_evicted_error() -> TurnError:
    """A turn that had not begun when the operator suspended, resumed or reset its session: it is kept."""
    text = (
        "The operator changed this session before this turn began (suspended, resumed or reset it). "
        "The message is kept and runs once, in the session as it is now. "
        "What to do: ask again with the same Idempotency-Key, or read the session's transcript."
    )
    return local_error("turn_interrupted", text, http_status=503)


def cancelled_error() -> TurnError:
    """A turn that its caller no longer wants."""
    return local_error("turn_cancelled", "The turn was cancelled: its caller went away.", http_status=499)


# -- ends ------------------------------------------------------------------------------------------------------


def unstored_end(turn_id: str, session_id: str, state: TurnState, error: TurnError) -> Ended:
    """An end that could not be committed, for the callers who wait."""
    return Ended(
        turn_id=turn_id,
        session_id=session_id,
        state=state,
        text="",
        finish_reason="error",
        usage={},
        model="",
        error=error_data(error),
        replayed=False,
    )


def error_data(error: TurnError | None) -> dict[str, object] | None:
    """A :class:`TurnError` as the plain data that :class:`Ended` carries."""
    return None if error is None else {name: getattr(error, name) for name in TurnError.__slots__}  # type: ignore[attr-defined]  # made by @message
