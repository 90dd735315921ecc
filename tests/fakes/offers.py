"""Offers of tools for tests that have no server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from workers.models.offer import Offer, OfferedTool, offer


def offer_of(definitions: Iterable[Mapping[str, Any]], server: str = "s") -> Offer:
    """These chat-completions definitions, as tools of one server."""
    return offer(
        OfferedTool(
            name=each.get("function", {}).get("name", ""),
            server=server,
            tool=each.get("function", {}).get("name", ""),
            definition=orjson.dumps(each),
            description_chars=len(each.get("function", {}).get("description", "")),
        )
        for each in definitions
    )
