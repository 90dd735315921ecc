"""The schemes of session keys: who made a session, and where it is known under which name.

========================  ==============================================================================
``api:<principal>:<id>``  a session that a caller of the HTTP API named
``conv:<principal>:<id>`` a stateless conversation: its requests bring all messages, and no caller names it
``bare:<principal>:<id>`` one request to the model alone: no agent, nothing before it, nothing kept of it
========================  ==============================================================================

A principal's name has no colon, so no principal reaches another's sessions.
"""

from __future__ import annotations

import uuid
from hashlib import blake2b

_BARE = "bare:"
_DIGEST_BYTES = 16


def api_session(principal: str, session_id: str) -> str:
    """The key of a session that a principal named."""
    return f"api:{principal}:{session_id}"


def api_session_id(principal: str, key: str) -> str:
    """The name in a session key of a principal."""
    return key.removeprefix(f"api:{principal}:")


def new_conversation(principal: str) -> str:
    """The key of a stateless conversation that begins."""
    return f"conv:{principal}:{uuid.uuid4().hex}"


def bare_request(principal: str) -> str:
    """The key of a request to the model alone."""
    return f"{_BARE}{principal}:{uuid.uuid4().hex}"


def is_bare(key: str) -> bool:
    """Whether a key is of a request to the model alone."""
    return key.startswith(_BARE)


def named_conversation(principal: str, user: str, idempotency_key: str) -> str:
    """The key of a stateless conversation whose request comes again under its Idempotency-Key."""
    name = f"{principal}\0{user}\0{idempotency_key}"
    return f"conv:{principal}:{blake2b(name.encode(), digest_size=_DIGEST_BYTES).hexdigest()}"


def conversation_transcript(key: str) -> str:
    """The id of the transcript of a stateless conversation; the registry knows neither."""
    return f"conv_{key.rpartition(':')[2]}"
