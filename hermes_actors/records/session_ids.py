"""The ids of transcripts, which sort by the time at which they began."""

from __future__ import annotations

import re
import secrets

_SESSION_ID = re.compile("ses_([0-9a-f]{12})[0-9a-f]{20}")


def new_session_id(now: float, *earlier: str | None) -> str:
    """``ses_`` and 32 hex digits, which sort by time: 48 bits of milliseconds since the epoch, 80 random ones.

    It sorts after the earlier ids of its session although the clock was set back: what sorts after the id that the
    registry has is taken for a transcript that it lost.
    """
    known = (_SESSION_ID.fullmatch(one) for one in earlier if one is not None)
    least = max((int(one[1], 16) + 1 for one in known if one is not None), default=0)
    return f"ses_{max(int(now * 1000), least):012x}{secrets.token_hex(10)}"
