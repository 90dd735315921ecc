"""What the error of a tool call means for the call, in words that a model can act on."""

from __future__ import annotations

import re
from collections.abc import Mapping

from workers.tools.toolbox import Outcome, ToolResult

CONNECTION_CLOSED = -32000  # the MCP SDK's; its package is imported only by what connects

# Codes of JSON-RPC errors made here; the specification leaves what is outside -32768…-32000 to applications. Servers
# may use these numbers too, so no error of a server keeps one (workers.tools.messages): what has one is ours.
ANSWERED = -39000  # an error of the server, whose own number means something else here
NOT_SENT = -39001  # no connection: the server saw nothing of the request
CUT = -39002  # sent, and the connection ended before the answer
SESSION_LOST = -39003  # the server does not know the MCP session, so it did nothing
REFUSED = -39004  # an HTTP error that says the request was not carried out
FAILED = -39005  # an HTTP error that leaves open whether it was
UNUSABLE = -39006  # answered, but with what cannot be read, or with more than is taken

OWN_CODES = frozenset({CONNECTION_CLOSED, ANSWERED, NOT_SENT, CUT, SESSION_LOST, REFUSED, FAILED, UNUSABLE})

_BY_CODE: Mapping[int, Outcome] = {
    CONNECTION_CLOSED: "unknown",
    CUT: "unknown",
    FAILED: "unknown",
    NOT_SENT: "not_sent",
    SESSION_LOST: "not_sent",
    REFUSED: "not_sent",
}
_KINDS: Mapping[int, str] = {
    ANSWERED: "an error of the server",
    CONNECTION_CLOSED: "the connection was closed",
    NOT_SENT: "no connection",
    CUT: "the connection ended before the answer",
    SESSION_LOST: "the MCP session is lost",
    REFUSED: "refused over HTTP",
    FAILED: "failed over HTTP",
    UNUSABLE: "the answer cannot be read",
}
MAX_NO_TOOL_CHARS = 500  # of an answer that is looked at
_NO_TOOL = re.compile(
    r"\b(unknown|no such|unrecognized|non-?existent) tool\b|"
    r"\btool:?\s+\S+\s+(is |was |does )?(not found|unknown|not exist|not available|disabled)",
    re.IGNORECASE,
)
_LEADS: Mapping[Outcome, str] = {
    "not_sent": "The call was not made",
    "unknown": "The outcome of the call is unknown, it may have acted",
    "tool_error": "The tool failed",
}
_ADVICE: Mapping[Outcome, str] = {
    "not_sent": " What to do: try again later, or go on without this tool.",
    "unknown": " What to do: find out whether it acted before you repeat it.",
}


def outcome_of(code: int) -> Outcome:
    """What a JSON-RPC error says of its call; an error that is not of the connection is the tool's answer."""
    return _BY_CODE.get(code, "tool_error")


def knows_no_tool(result: ToolResult) -> bool:
    """Whether a server says that it has no such tool, which servers do in words, by result and by error."""
    return result.outcome == "tool_error" and _NO_TOOL.search(result.text[:MAX_NO_TOOL_CHARS]) is not None


def kind_of(code: int) -> str:
    """What a JSON-RPC error is, without the words of a server, which may quote what they like."""
    return _KINDS.get(code, f"an error of the server ({code})")


def failed(outcome: Outcome, why: str) -> ToolResult:
    """A call that failed: what that means, why, and what to do."""
    return ToolResult(text=f"{_LEADS[outcome]}: {why.rstrip('.')}.{_ADVICE.get(outcome, '')}", outcome=outcome)
