"""What a stateless conversation is known by: its messages in one canonical form, and the hash of that.

A client of the chat-completions API keeps the conversation and sends it whole with each request. A follow-up is found
by the hash of what precedes its new message; so the owner of a finished turn, which knows the messages of the request
and the reply that was given, computes that same hash before the follow-up comes::

    history_hash([*submission.messages, assistant_message(ended.text)])

A reply that was streamed is echoed as the client joined it: the text of all its deltas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from workers.kept_json import kept_json

HISTORY_HASH_BYTES = 16


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


def assistant_message(text: str) -> bytes:
    """The reply as a client that keeps the conversation sends it back."""
    return canonical({"role": "assistant", "content": text})


def history_hash(messages: Sequence[bytes]) -> bytes:
    """The hash of canonical messages, ``b""`` of none. JSON objects tell where they end, so they are just joined."""
    return blake2b(b"".join(messages), digest_size=HISTORY_HASH_BYTES).digest() if messages else b""
