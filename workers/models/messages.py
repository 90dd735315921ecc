"""From a request in the transcript's own messages to the messages that a provider is sent, purely."""

from __future__ import annotations

from itertools import chain

import orjson

from workers.models.provider import ModelRequest


def upstream_messages(request: ModelRequest) -> list[bytes]:
    """The chat messages that a provider is sent, each as JSON: at most one system message, which comes first."""
    past = chain.from_iterable(passage.rows for passage in request.past)
    return [*system_message(request.system), *past, *request.messages]


def system_message(text: str) -> tuple[bytes, ...]:
    """The one system message of a request; nothing where there is nothing to say."""
    return (orjson.dumps({"role": "system", "content": text}),) if text else ()
