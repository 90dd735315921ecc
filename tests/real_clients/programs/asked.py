"""What a client's program is asked, and how it answers: one JSON object each way. Needs the standard library alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

MODEL = "hermes-actors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One message that the client sends as its users do."""

    base_url: str  # with /v1
    key: str
    text: str
    headers: dict[str, str] = field(default_factory=dict)  # X-Hermes-Session-Id, or none
    stream: bool = False
    tool: bool = False  # offer `look`, run it, and go on until there is an answer in words
    output: bool = False  # ask for an answer of the type that has the field `window`
    responses: bool = False  # /v1/responses instead of chat completions
    timeout_s: float | None = None  # of a read; None: the client's own


def look(window: str) -> str:
    """Look out of a window."""
    return f"rain in the {window}"


LOOK = {
    "name": "look",
    "description": "Look out of a window.",
    "parameters": {"type": "object", "properties": {"window": {"type": "string"}}, "required": ["window"]},
}


def answering(say: Callable[[Asked], str]) -> None:
    """Print the text that the client's user would see, or the error."""
    try:
        said = {"text": say(Asked(**json.loads(sys.argv[1])))}
    except Exception as error:  # noqa: BLE001  # whatever a client raises is what its user sees
        said = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(said))  # noqa: T201  # the answer of this program
