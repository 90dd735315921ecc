"""Plain data as the columns of a shard keep it."""

from __future__ import annotations

from typing import Any

import msgpack

from workers.store.shard import StoreFailed
from workers.turns import Address, Ended, Origin


def kept_origin(origin: Origin) -> dict[str, Any]:
    """An origin as its column keeps it: a map without what is empty, as every release has written it."""
    kept: dict[str, Any] = {"ingress": origin.ingress, "request_id": origin.request_id}
    if origin.user:
        kept["user"] = origin.user
    if origin.reply_to is not None:
        kept["reply_to"] = [origin.reply_to.channel, origin.reply_to.chat, origin.reply_to.thread]
    return kept


def origin_of(kept: dict[str, Any]) -> Origin:
    """What :func:`kept_origin` was given, in this release or an earlier one."""
    reply_to = None
    if (address := kept.get("reply_to")) is not None:
        channel, chat, thread = address
        reply_to = Address(channel=channel, chat=chat, thread=thread)
    return Origin(
        ingress=kept.get("ingress", ""),
        request_id=kept.get("request_id", ""),
        user=kept.get("user", ""),
        reply_to=reply_to,
    )


def kept_end(ended: Ended) -> dict[str, Any]:
    """A turn's end as its column keeps it; other columns have the rest."""
    kept: dict[str, Any] = {
        "text": ended.text,
        "finish_reason": ended.finish_reason,
        "usage": ended.usage,
        "model": ended.model,
        "error": ended.error,
    }
    if ended.tool_calls:
        kept["tool_calls"] = ended.tool_calls
    return kept


def packed(value: object) -> bytes:
    """Plain data as msgpack; text that is no valid Unicode included, a turn's end must not fail of it.

    Raises:
        StoreFailed: it holds something that msgpack does not carry.
    """
    try:
        data: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreFailed(f"not plain data: {error}") from error
    return data


def unpack(data: bytes) -> Any:
    """What :func:`packed` was given."""
    return msgpack.unpackb(data, unicode_errors="surrogatepass", strict_map_key=False)
