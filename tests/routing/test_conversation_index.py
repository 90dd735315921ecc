"""Pointers from a history to the agent that lived it: claimed once, bounded, never between people."""

from __future__ import annotations

import pytest

from workers.conversations import StatelessConversation
from workers.routing.conversations import ConversationIndex


def conversation(principal: str = "anna", user: str = "", history: bytes = b"\x01") -> StatelessConversation:
    return StatelessConversation(principal=principal, user=user, history=history, idempotency_key=None)


def test_a_pointer_is_claimed_once() -> None:
    index = ConversationIndex()
    index.offer("name", "key")

    assert [index.claim("name"), index.claim("name")] == ["key", None]


def test_the_last_agent_that_lived_a_history_is_found() -> None:
    index = ConversationIndex()
    index.offer("name", "old")
    index.offer("name", "new")

    assert index.claim("name") == "new"


def test_above_the_limit_the_oldest_pointers_are_forgotten() -> None:
    index = ConversationIndex(limit=2)
    for name in ("a", "b", "a", "c"):
        index.offer(name, f"key of {name}")

    assert [index.claim(name) for name in ("a", "b", "c")] == ["key of a", None, "key of c"]


@pytest.mark.parametrize("other", [{"principal": "bob"}, {"user": "bob"}, {"history": b"\x02"}])
def test_another_person_user_or_history_is_another_name(other: dict[str, object]) -> None:
    assert conversation().name != conversation(**other).name  # type: ignore[arg-type]  # right types
