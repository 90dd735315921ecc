"""Failures of a provider, recognised as the real client recognises them."""

from __future__ import annotations

from typing import Any

from workers.models.provider import ModelFailure
from workers.models.signs import recognise


def failed(
    *, status: int | None = 500, kind: str = "status", text: str = "no", code: str | None = None, **others: Any
) -> ModelFailure:
    """How a request failed; its cause is recognised where the test does not say it."""
    if "cause" not in others:
        codes = frozenset() if code is None else frozenset({code.lower()})
        others["cause"], others["advice"] = recognise(kind, status, codes=codes, text=text)
    made: dict[str, Any] = {"provider": "fake", "model": "fake-1", "retry_after_s": None, "attempts": 1, **others}
    return ModelFailure(kind=kind, status=status, text=text, code=code, **made)
