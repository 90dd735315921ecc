"""What an agent did that the client of a stateless conversation has not in its history, purely.

Such a client sends the whole conversation with each request, but sees nothing of the agent's own tools. That is enough
once an answer in words has said what they gave. It is not while the client runs tools for an answer that is still to
come: without the results of the agent's own tools the model would call them again. So they are kept until that answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

MAX_BYTES = 512 * 1024  # of one conversation; the oldest go first


class HiddenWork:
    """The messages of the turns that ended with calls for the client, since the last answer in words."""

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns: list[tuple[tuple[Any, ...], Sequence[bytes]]] = []  # ids of the calls for the client, and all

    def add(self, tool_calls: Sequence[Mapping[str, Any]], rows: Sequence[bytes]) -> None:
        """Keep what a turn did.

        Args:
            tool_calls: that it left to the client.
            rows: its messages, without those that it came with.
        """
        self._turns.append((_ids(tool_calls), rows))
        while sum(len(row) for _, kept in self._turns for row in kept) > MAX_BYTES:
            del self._turns[0]

    def restored(self, messages: Sequence[bytes]) -> list[bytes]:
        """The messages of a client, with the whole turns in the place of what it was given of them.

        The newest first: some providers give their calls the same ids in each answer.
        """
        left = [*self._turns]
        whole: list[bytes] = []
        for row in reversed(messages):
            calls = orjson.loads(row).get("tool_calls") if left and b'"tool_calls"' in row else None
            if calls and _ids(calls) == left[-1][0]:
                whole += reversed(left.pop()[1])
            else:
                whole.append(row)
        return whole[::-1]


def _ids(calls: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(call["id"] for call in calls)
