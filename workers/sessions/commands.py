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
/model [name]    show or choose the model of this session; /model default undoes the choice
/retry           send the last message again
/new, /reset     begin a fresh conversation in this session
/resume          bring the conversation back that was set aside when this session was suspended
/compress        summarise the older part of this conversation, so that less of it is sent to the model
/restart         restart the gateway, once the turns that run are over or out of time (administrators)
/help            this list
/mcp__<server>__<prompt> [text | name=value …]
                 send a prompt of an MCP server
{prompts}
Anything else, also after a slash, goes to the model."""

_WITHOUT_ARGUMENT = frozenset({"new", "reset", "stop", "status", "retry", "resume", "compress", "restart", "help"})
_PROMPT = b'"/mcp__'
_BY_USER, _BY_TOOL = b'"role":"user"', b'"role":"tool"'
_LONGEST = 256  # characters; a longer text is no command


def help_text(prompts: Sequence[str]) -> str:
    """The commands that there are.

    Args:
        prompts: the commands for prompts that are known, with their arguments.
    """
    return HELP.format(prompts="".join(f"                 {prompt}\n" for prompt in prompts))


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


def prompt_asked_for(messages: Sequence[bytes]) -> str | None:
    """The newest message, where it may ask for the prompt of an MCP server; cheap for what does not."""
    body = _words(messages)
    if _PROMPT not in body:
        return None
    text = text_of(orjson.loads(body).get("content"))
    return text if text.startswith("/mcp__") else None


def command_in(messages: Sequence[bytes]) -> Command | None:
    """The command that the newest message is. Cheap for what is none: most messages are."""
    body = _words(messages)
    if b'"/' not in body:
        return None
    message: dict[str, Any] = orjson.loads(body)
    return parse(text_of(message.get("content")))


def _words(messages: Sequence[bytes]) -> bytes:
    """The newest message of the user: what the system says may follow it. Empty where results of tools are the last."""
    for body in reversed(messages):
        if _BY_USER in body:  # no text holds these bytes: its quotes are escaped
            return body
        if _BY_TOOL in body:
            break
    return b""
