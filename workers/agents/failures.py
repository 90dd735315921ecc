"""Why a turn failed, in words for the person who sent the message: who, which model, what status, what to do."""

from __future__ import annotations

from workers.models.provider import ModelFailure
from workers.turns import TurnError

_STATUS_ADVICE = {
    401: "the key was refused: check the provider's key_env variable",
    403: "the key may not use this model: check the account, or choose another model",
    404: "check base_url and the model id",
    413: "the conversation is too large for this model: start a new session",
}


def is_own_fault(failure: ModelFailure) -> bool:
    """Whether the request's content was refused, so that sending it again would poison the session."""
    return failure.status == 413 or (failure.status in (400, 422) and not concerns_model(failure))


def concerns_model(failure: ModelFailure) -> bool:
    """Whether a 400 is about the model id, not about what was said."""
    return failure.code == "model_not_found" or (bool(failure.model) and failure.model in failure.text)


def failure_error(failure: ModelFailure) -> TurnError:
    """A provider's failure as the caller gets it: who, which model, what status, what to do."""
    status = failure.status
    if status == 429:
        code, http_status, advice = "rate_limited", 429, "wait, then send the message again"
    elif failure.kind == "timeout":
        code, http_status, advice = "provider_timeout", 504, "send the message again, or raise the model's time-outs"
    else:
        code, http_status = "provider_error", 502
        advice = _STATUS_ADVICE.get(status or 0, "send the message again later")
        if status == 400:
            advice = "check the model id" if concerns_model(failure) else "change the message, or start a new session"
    what = f"HTTP {status}" if status is not None else failure.kind
    tries = f" after {failure.attempts} attempts" if failure.attempts > 1 else ""
    return TurnError(
        code=code,
        text=f"{failure.provider} failed for model {failure.model} ({what}{tries}): {failure.text}\n"
        f"What to do: {advice}.",
        http_status=http_status,
        provider=failure.provider,
        model=failure.model,
        upstream_status=status,
        retry_after_s=failure.retry_after_s,
    )


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


_CUT_WORDS = {
    "shutdown_timeout": "The gateway stopped while this turn ran.",
    "restart_timeout": "The gateway restarted while this turn ran.",
    "crash": "The gateway's worker died while this turn ran.",
    "moved": "The session moved to another worker while this turn ran.",
}


def cut_error(reason: str) -> TurnError:
    """A turn that a stop, a restart, a crash or a move cut off; its tools may have acted."""
    text = (
        f"{_CUT_WORDS[reason]} What to do: look at what it did, then send your next message; "
        "the conversation is kept and the turn is not run again."
    )
    return local_error("turn_interrupted", text, http_status=503)


def waiting_error() -> TurnError:
    """A turn that had not begun when the gateway stopped: it is kept."""
    text = (
        "The gateway stopped before this turn began. It is kept and will run once after the next start. "
        "What to do: read the session's transcript then, or ask again with the same Idempotency-Key."
    )
    return local_error("turn_interrupted", text, http_status=503)


def too_large_error() -> TurnError:
    """A reply that is kept, but does not fit into a frame to the worker that holds the caller."""
    text = "The reply is too large to be handed over. It is kept: read it in the session's transcript."
    return local_error("reply_too_large", text, http_status=502)


def cancelled_error() -> TurnError:
    """A turn that its caller no longer wants."""
    return local_error("turn_cancelled", "The turn was cancelled: its caller went away.", http_status=499)
