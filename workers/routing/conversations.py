"""Where the agents of stateless conversations are: the hash of a history points to the agent that lived it.

A pointer is kept by the owner of the shard that the *hash* falls into, so every worker knows whom to ask. It is taken
by one follow-up; a second one starts an agent of its own. In memory only: a lost pointer costs a new agent, no more.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_POINTERS = 100_000  # about 25 MB


class ConversationIndex:
    """The pointers that this worker keeps, the oldest first."""

    def __init__(self, limit: int = MAX_POINTERS) -> None:
        self._limit = limit
        self._pointers: OrderedDict[str, str] = OrderedDict()

    def offer(self, name: str, key: str) -> None:
        """The agent of session ``key`` has lived this history."""
        self._pointers[name] = key
        self._pointers.move_to_end(name)
        if len(self._pointers) > self._limit:
            self._pointers.popitem(last=False)

    def claim(self, name: str) -> str | None:
        """The session key whose agent lived this history, once."""
        return self._pointers.pop(name, None)
