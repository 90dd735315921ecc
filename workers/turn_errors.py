"""Why a turn failed or was cut, in words for the person who sent the message: what happened, and what to do."""

from __future__ import annotations

from workers.models.cause import TREATMENTS, Cause
from workers.turns import Ended, TurnError, TurnState

STORE_FAILED_WORDS = "The gateway could not store it; its log says why. What to do: check its disk, then try again."


def bug_error() -> TurnError:
    """The gateway failed inside."""
    treatment = TREATMENTS[Cause.BUG]
    text = f"The gateway has an internal error; its log has the details. What to do: {treatment.advice}."
    return local_error(treatment.code, text, http_status=treatment.http_status)


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
    "The turn does not run again, because its tools may have acted. The conversation is kept: your next message "
    "continues it, and the model knows of the interruption. A session that is cut several times in a row starts a "
    "fresh conversation and says so; /resume brings the earlier one back. "
    "What to do: check what the turn did, then send your next message."
)


def cut_error(reason: str) -> TurnError:
    """A turn that a stop, a restart, a crash or a move cut off; its tools may have acted."""
    return local_error("turn_interrupted", f"{_CUT_WORDS[reason]} {_AFTER_A_CUT}", http_status=503)


def cut_reason(text: str) -> str:
    """What :func:`cut_error` was made of, by its text; ``crash`` where another release wrote that."""
    return next((reason for reason, words in _CUT_WORDS.items() if text.startswith(words)), "crash")


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
    text = "The reply is too large to deliver. It is kept: read it in the session's transcript."
    return local_error("reply_too_large", text, http_status=502)


def stopped_error(how: str) -> TurnError:
    """A turn that was ended for good: ``with /stop``, ``by the operator``."""
    return local_error("turn_cancelled", f"The turn was stopped {how}.", http_status=400)


def deleted_error() -> TurnError:
    """A turn whose session was deleted."""
    return local_error("turn_cancelled", "The session was deleted while this turn ran.", http_status=400)


def evicted_error() -> TurnError:
    """A turn whose session the operator suspended, resumed or reset."""
    text = (
        "The operator suspended, resumed or reset this session while the turn ran or waited. "
        "What to do: check what the turn did, then send your next message."
    )
    return local_error("turn_cancelled", text, http_status=400)


def not_evicted_error() -> TurnError:
    """A turn that had not started when the operator suspended, resumed or reset its session: it is kept."""
    text = (
        "The operator suspended, resumed or reset this session before this turn started. "
        "The message is kept and runs once, in the session as it is now. "
        "What to do: ask again with the same Idempotency-Key, or read the session's transcript."
    )
    return local_error("turn_interrupted", text, http_status=503)


def cancelled_error() -> TurnError:
    """A turn that its caller no longer wants."""
    return local_error("turn_cancelled", "The turn was cancelled: its caller disconnected.", http_status=400)


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
