"""The words for a session's marks, purely: for its model, and for the people who talk to it."""

from __future__ import annotations

from hermes_actors.times import moment
from hermes_actors.wire.records import Fresh, Interrupted, Lost, Suspended
from workers.models.failure import public_name
from workers.models.provider import ModelReply
from workers.sessions.marks import Marks
from workers.store.shard import Summary

_CUT_BY = {
    "restart_timeout": "the gateway was restarted while it ran",
    "shutdown_timeout": "the gateway was stopped or held while it ran",
    "crash": "a process of the gateway died while it ran",
}
_CUT_SOMEHOW = "the gateway cut it off"  # a reason that another release wrote
_UNITS = ((24 * 3600, "day"), (3600, "hour"), (60, "minute"))


def ago(seconds: float) -> str:
    """How long ago something was, in words; a clock that was set back makes it recent."""
    for size, unit in _UNITS:
        if (count := round(seconds / size)) >= 1:
            return f"about {count} {unit}{'s' if count > 1 else ''} ago"
    return "less than a minute ago"


def resume_note(resume: Interrupted, *, now: float, fresh_s: float) -> str:
    """What the model reads of a cut, beside the transcript that ends with it.

    Args:
        resume: the mark.
        now: seconds since the epoch.
        fresh_s: an older mark is history: nothing is asked of the model.
    """
    age_s = now - resume.at
    why = _CUT_BY.get(resume.reason, _CUT_SOMEHOW)
    if age_s <= fresh_s:
        cut = f"Note from the gateway: an earlier turn of this conversation was interrupted: {why}."
        then = (
            "Go on from where it was, unless the person now asks for something else, "
            "and say in a few words that it was interrupted."
        )
    else:
        cut = f"Note from the gateway: {ago(age_s)} a turn of this conversation was interrupted: {why}."
        then = "This is history, not a task: do not take it up again unless asked."
    unknown = (
        "Tool calls of it that had not finished have unknown outcomes: they may or may not have acted. "
        "Check what they did before you repeat any of them."
    )
    return f"{cut} {unknown} {then}"


def fresh_line(fresh: Fresh, *, threshold: int) -> str:
    """The line that opens the first answers after a suspension.

    Args:
        fresh: the mark.
        threshold: ``supervisor.stuck_threshold``.
    """
    return f"[{_set_aside(fresh, threshold)} It is kept as {fresh.former_id}; /resume brings it back.]"


def _set_aside(fresh: Fresh, threshold: int) -> str:
    if fresh.reason == "operator":
        return "The operator suspended the earlier conversation."
    times = "once" if threshold == 1 else f"{threshold} times in a row"
    return f"The earlier conversation was set aside because restarts or crashes cut it {times}."


def remarks_on(reply: ModelReply, *, chosen: str | None, before: str) -> list[str]:
    """What stands behind an answer: how its provider recovered, and that another model gave it than was chosen.

    Args:
        reply: the answer.
        chosen: with ``/model``; None: nothing was.
        before: the model that answered before, so that the same is said once; empty for none since the choice.
    """
    remarks = [reply.remark] if reply.remark else []
    if chosen is not None and reply.model != before and not same_model(chosen, reply.model):
        who = f"the fallback {public_name(reply.provider)}" if reply.fallback else "the provider"
        remarks.append(
            f"[This answer is of the model {reply.model}, although {chosen} was chosen with /model: {who} gave it. "
            "/model default undoes the choice.]"
        )
    return remarks


def same_model(asked: str, answered: str) -> bool:
    """Whether a provider's name for a model may mean the one that was asked for: dated, or without its maker's name."""
    one, two = (name.lower().rpartition("/")[2].partition(":")[0] for name in (asked, answered))
    return not two or one.startswith(two) or two.startswith(one)


def lost_line(lost: Lost) -> str:
    """The line that opens the first answers after files of the gateway lost something."""
    return f"[{_gone(lost)}]"


def opening(marks: Marks, *, threshold: int) -> str:
    """What a reply begins with, before the model's own words; "" where there is nothing to tell."""
    lines = [fresh_line(marks.fresh, threshold=threshold)] if marks.fresh is not None else []
    lines += [lost_line(marks.lost)] if marks.lost is not None else []
    return "\n".join(lines)


def _gone(lost: Lost) -> str:
    if lost.what == "names":
        return (
            "The gateway lost its list of conversations, and found this one again: "
            "it goes on where it was, unless you had begun another one with /reset."
        )
    if lost.what == "all":
        return f"What was said in this conversation until {moment(lost.at)} is lost: the gateway lost its file."
    since = "The end of this conversation" if lost.until is None else f"What was said here after {moment(lost.until)}"
    return f"{since} may be missing: the gateway's file of it lost its end."


def status_lines(marks: Marks, *, now: float, threshold: int) -> list[str]:
    """The marks of a session in ``/status``."""
    lines: list[str] = []
    if marks.resume is not None:
        why = _CUT_BY.get(marks.resume.reason, _CUT_SOMEHOW)
        lines.append(f"cut       {ago(now - marks.resume.at)}: {why}; the model is informed until a turn succeeds")
    if marks.fresh is not None:
        told = _set_aside(marks.fresh, threshold)
        lines.append(f"fresh     {told} It is kept as {marks.fresh.former_id}; /resume brings it back.")
    if marks.lost is not None:
        lines.append(f"lost      {_gone(marks.lost)}")
    if marks.strikes:
        lines.append(f"strikes   {marks.strikes} of {threshold}; a turn that succeeds clears them")
    return lines


def summary_words(summary: Summary, *, now: float) -> str:
    """What ``/status`` and ``sessions show`` say of a conversation whose oldest turns are summarised."""
    turns = "turn is" if summary.turns == 1 else f"{summary.turns} turns are"
    return f"the first {turns} summarised for the model ({ago(now - summary.made_at)}); the transcript keeps them"


def suspended_line(suspended: Suspended, *, now: float) -> str:
    """The suspension of a session in ``/status``."""
    why = "by the operator" if suspended.reason == "operator" else "restarts or crashes cut it again and again"
    return (
        f"suspended {ago(now - suspended.at)}: {why}; the next message starts a fresh conversation, "
        "then /resume brings this one back"
    )
