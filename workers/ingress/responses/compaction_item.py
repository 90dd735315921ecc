"""The item that stands for a part of a conversation: a summary, in a form that its client only passes on."""

from __future__ import annotations

import uuid
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from workers.conversations import canonical
from workers.ingress.http.errors import invalid
from workers.models.summary import MAX_SUMMARY_CHARS

MAX_ENCODED_CHARS = 8 * MAX_SUMMARY_CHARS  # four bytes a character, in base64


def compaction_item(text: str) -> dict[str, Any]:
    """A summary as an item. The specification calls its content encrypted; this is encoded, for it is no secret."""
    encoded = urlsafe_b64encode(text.encode()).decode()
    return {"type": "compaction", "id": f"cmp_{uuid.uuid4().hex}", "encrypted_content": encoded, "created_by": None}


def summary_message(item: Mapping[str, Any], where: str) -> bytes:
    """The chat message that the model gets in the place of a summarised part.

    Raises:
        ApiError: 400; the item was not made by :func:`compaction_item`.
    """
    encoded = item.get("encrypted_content")
    try:
        if not isinstance(encoded, str) or len(encoded) > MAX_ENCODED_CHARS:
            raise ValueError
        text = b64decode(encoded, altchars=b"-_", validate=True).decode()
    except ValueError:  # binascii's and Unicode's errors are ones too
        what = f"`{where}.encrypted_content` must be as /v1/responses/compact gave it."
        raise invalid(f"{where}.encrypted_content", what) from None
    note = f"[Note from the gateway: the conversation before this, summarised:]\n\n{text}"
    return canonical({"role": "user", "content": note})
