"""Commands in a message: exact known words, answered by the session's owner without a model.

Anything else that begins with a slash is for the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from workers.models.content import text_of

Word = Literal["new", "reset", "stop", "status", "model", "retry", "resume", "compress", "restart", "help"]

HELP = """\
/status          what this session is doing
/stop            end the turn that runs, for good
/model [name]    show or choose the model of this session; /model default takes the choice back
/retry           send the last message again
/new, /reset     begin a fresh conversation in this session
/resume          bring the conversation back that was set aside when this session was suspended
/compress        summarise the older part of this conversation, so that less of it is sent to the model
/restart         restart the gateway, once the turns that run are over or out of time (administrators)
/help            this list

Anything else, also after a slash, goes to the model."""

_WITHOUT_ARGUMENT = frozenset({"new", "reset", "stop", "status", "retry", "resume", "compress", "restart", "help"})
_LONGEST = 256  # characters; a longer text is no command


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A known word, and the name after ``/model``."""

    word: Word
    argument: str = ""

    @property
    def only_tells(self) -> bool:
        """Whether it changes nothing, so that it may be done again."""
        return self.word in ("status", "help")


def parse(text: str) -> Command | None:
    """The command that a message is; None where it is for the model."""
    if len(text) > _LONGEST or not text.startswith("/"):
        return None
    word, *arguments = text.split()
    name = word[1:]
    if name in _WITHOUT_ARGUMENT and not arguments:
        return Command(word=name)  # type: ignore[arg-type]  # it is one of the words
    if name == "model" and len(arguments) <= 1:
        return Command(word="model", argument=arguments[0] if arguments else "")
    return None


def command_in(messages: Sequence[bytes]) -> Command | None:
    """The command that the newest message is. Cheap for what is none: most messages are."""
    body = messages[-1]
    if b'"/' not in body:
        return None
    message: dict[str, Any] = orjson.loads(body)
    return parse(text_of(message.get("content")))
