"""An answer that says nothing: recognised, and what its caller reads instead. Pure."""

from __future__ import annotations

from workers.models import ends
from workers.models.provider import ModelReply

# The same request ends the same way: it needs more tokens, or other words.
_SETTLED = frozenset({ends.LENGTH, ends.CONTENT_FILTER})


def is_empty(reply: ModelReply) -> bool:
    """Whether an answer has neither text, but for blanks, nor tool calls; what the model thought is no answer."""
    return not reply.tool_calls and not reply.text.strip()


def is_worth_another_try(reply: ModelReply) -> bool:
    """Whether the same provider may well say something if it is asked once more."""
    return is_empty(reply) and reply.finish_reason not in _SETTLED


def line_of_empty(reply: ModelReply) -> str:
    """What the caller gets in place of an empty answer."""
    match reply.finish_reason:
        case ends.LENGTH:
            why = "it spent all its tokens on thinking" if reply.reasoning else "it came to its limit of tokens first"
            return f"[The model gave no answer: {why}. What to do: raise max_tokens, or lower reasoning_effort.]"
        case ends.CONTENT_FILTER:
            return "[The provider's content filter held the answer back. What to do: put the message in other words.]"
        case _:
            return (
                "[The model gave an empty answer, also when it was asked again. What to do: send the message again "
                "(/retry), or choose another model with /model.]"
            )
