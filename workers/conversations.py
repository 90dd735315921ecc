"""What a stateless conversation is known by: its messages in one canonical form, and the hash of them.

A client of the chat-completions API keeps the conversation and sends it whole with each request. A follow-up is found
by the hash of what precedes its new message; so the owner of a finished turn, which knows the messages of the request
and the reply that it gave, computes that same hash before the follow-up comes (:func:`follow_ups`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from workers.kept_json import kept_json
from workers.turns import Submission

HISTORY_HASH_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StatelessConversation:
    """How a stateless request finds the agent that already knows its history."""

    principal: str
    user: str  # the request's ``user`` field, or ""
    history: bytes  # hash of the messages before the new one; b"" when there are none
    idempotency_key: str | None

    @property
    def name(self) -> str:
        """Who talks, as which user, with which history: what its agent is known by."""
        return f"{self.principal}\0{self.user}\0{self.history.hex()}"


def canonical(message: Mapping[str, Any]) -> bytes:
    """A chat message as JSON, the same for all ways to write it that mean the same.

    Keys are sorted and null ones left out; one text part is a plain string; no content is an empty string.
    """
    content = message.get("content")
    if content is None:
        content = ""
    elif isinstance(content, list) and len(content) == 1 and content[0].get("type") == "text":
        content = content[0]["text"]
    kept = {name: value for name, value in message.items() if value is not None}
    return kept_json({**kept, "content": content}, orjson.OPT_SORT_KEYS)


def assistant_message(text: str, tool_calls: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """The reply as a client that keeps the conversation sends it back."""
    return canonical({"role": "assistant", "content": text, "tool_calls": tool_calls or None})


def history_hash(messages: Sequence[bytes]) -> bytes:
    """The hash of canonical messages, ``b""`` of none. A JSON object shows where it ends, so they are just joined."""
    return blake2b(b"".join(map(_counted, messages)), digest_size=HISTORY_HASH_BYTES).digest() if messages else b""


def _counted(message: bytes) -> bytes:
    """What of a message counts: of one with calls their ids, since client libraries write arguments again their way."""
    if b'"tool_calls"' not in message:  # which no text holds: its quotes are escaped
        return message
    return orjson.dumps([call.get("id") for call in orjson.loads(message)["tool_calls"]])


def follow_ups(
    submission: Submission, replies: Iterable[str], tool_calls: Sequence[Mapping[str, Any]] = ()
) -> list[StatelessConversation]:
    """How the requests that go on from a finished turn find its agent.

    Args:
        submission: of the turn.
        replies: the forms in which its client may send the reply back. A reply that was streamed comes back as the
            client joined it: the text of all its deltas.
        tool_calls: that the reply left to the client.
    """
    origin = submission.origin
    messages = {assistant_message(reply, tool_calls) for reply in replies}
    histories = {history_hash([*submission.messages, message]) for message in messages}
    return [
        StatelessConversation(
            principal=submission.principal,
            user=origin.user,
            history=history,
            idempotency_key=None,
        )
        for history in histories
    ]
