"""What a stopped turn means for the process of a server whose calls it cancelled: pure.

A server that keeps the specification does not answer a cancelled call, so most do not show whether they stopped. In the
protocol of 2026-07-28 the SDKs stop a tool that is cancelled (measured with the Python, TypeScript and Go ones). Before
it some never do, and blocking tools do not in either.
"""

from __future__ import annotations

from typing import Literal

from mcp_types.version import MODERN_PROTOCOL_VERSIONS

Fate = Literal["keep", "keep_alive", "end"]


def on_stop(configured: Literal["cancel", "end"] | None, *, version: str, obeys_cancel: bool) -> Fate:
    """What becomes of the process of one session.

    Args:
        configured: ``on_stop`` of its entry.
        version: of the protocol that it speaks.
        obeys_cancel: it once answered a cancelled call with an error, as servers do that stop it.

    Returns:
        ``keep``: nothing is done to it. ``keep_alive``: it is kept if it answers anything within the grace, else it is
        taken for busy with the cancelled call, and ended. ``end``: it is kept if it answers the cancelled calls within
        the grace, else ended.
    """
    if configured == "cancel":
        return "keep"
    if configured is None and (obeys_cancel or version in MODERN_PROTOCOL_VERSIONS):
        return "keep_alive"
    return "end"
