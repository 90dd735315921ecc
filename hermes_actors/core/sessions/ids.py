"""The ids of transcripts, which sort by the time at which they began. Pure."""

from __future__ import annotations

import re

_SESSION_ID = re.compile("ses_([0-9a-f]{12})[0-9a-f]{20}")


def session_id(at: float, token: str, *earlier: str | None) -> str:
    """``ses_`` and 32 hex digits, which sort by time: 48 bits of milliseconds since the epoch, 80 random ones.

    It sorts after the earlier ids of its session although the clock was set back: what sorts after the id that the
    registry has is taken for a transcript that it lost.

    Args:
        at: when the transcript begins, in seconds since the epoch.
        token: 20 random hex digits.
        earlier: ids of the same session.
    """
    known = (_SESSION_ID.fullmatch(one) for one in earlier if one is not None)
    least = max((int(one[1], 16) + 1 for one in known if one is not None), default=0)
    return f"ses_{max(int(at * 1000), least):012x}{token}"
