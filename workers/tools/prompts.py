"""Prompts of servers, which people ask for by commands in a message: pure but for what asks the server.

``/mcp__<server>__<prompt> some text`` gives the text to the first argument; ``name=value`` pairs, with quotes where a
value has blanks, name the arguments. Where each word is such a pair of an argument that the prompt has they are pairs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp import Client
from mcp_types import CallToolResult, PromptMessage

from workers.kept_json import kept_json
from workers.tools.content import to_tool_result
from workers.tools.introduction import Prompt, PromptArgument

_PAIR = re.compile(r"([^\s=]+)=(.*)", re.DOTALL)
CONTINUE = "Go on."  # the user's word after a prompt that ends with one of the assistant


@dataclass(frozen=True, slots=True)
class PromptArguments:
    """What a prompt was asked with, or what is wrong with that."""

    arguments: Mapping[str, str]
    problem: str = ""


def asked(prompt: Prompt, text: str) -> PromptArguments:
    """The arguments in the text behind a command."""
    text = text.strip()
    names = [argument.name for argument in prompt.arguments]
    pairs = _pairs(text, names)
    if pairs is not None:
        given = pairs
    elif not names:
        return PromptArguments({}, f"It takes no arguments, and got {text[:40]!r}.")
    else:
        given = {names[0]: _unquoted(text)}
    missing = [argument.name for argument in prompt.arguments if argument.required and not given.get(argument.name)]
    return PromptArguments(given, f"It needs {' and '.join(missing)}." if missing else "")


def usage(word: str, prompt: Prompt) -> str:
    """How to ask for a prompt, for people."""
    lines = [signature(word, prompt)]
    if prompt.description:
        lines.append(prompt.description)
    for argument in prompt.arguments:
        about = f"  {argument.description}" if argument.description else ""
        lines.append(f"  {argument.name}{'' if argument.required else ' (optional)'}{about}")
    return "\n".join(lines)


def signature(word: str, prompt: Prompt) -> str:
    """A command with its arguments, on one line."""
    return " ".join([f"/{word}", *map(_shown, prompt.arguments)])


def _shown(argument: PromptArgument) -> str:
    pair = f"{argument.name}=…"
    return pair if argument.required else f"[{pair}]"


def _pairs(text: str, names: Sequence[str]) -> dict[str, str] | None:
    """The ``name=value`` pairs that a text is, or None."""
    try:
        words = shlex.split(text)
    except ValueError:  # an apostrophe: it is plain text
        return None
    found = [_PAIR.fullmatch(word) for word in words]
    pairs = {pair[1]: pair[2] for pair in found if pair is not None}
    return pairs if len(pairs) == len(words) and set(pairs) <= set(names) else None


def _unquoted(text: str) -> str:
    whole = len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]
    return text[1:-1] if whole else text


async def fetched(client: Client, name: str, arguments: Mapping[str, Any]) -> list[bytes]:
    """The messages of a prompt, as chat messages.

    Raises:
        MCPError: the server or the connection failed, or there is no such prompt.
    """
    given = {key: str(value) for key, value in arguments.items()}
    return messages((await client.get_prompt(name, given)).messages)


def messages(said: Sequence[PromptMessage]) -> list[bytes]:
    """The messages of a prompt as a transcript keeps them; they end with one of the user."""
    made = [_message(each) for each in said]
    if said and said[-1].role == "assistant":
        made.append(kept_json({"role": "user", "content": CONTINUE}))
    return made


def _message(said: PromptMessage) -> bytes:
    shown = to_tool_result(CallToolResult(content=[said.content]))
    text = "" if said.content.type == "text" and not said.content.text.strip() else shown.text
    if said.role == "assistant" or not shown.images:  # no provider takes a picture of an assistant
        return kept_json({"role": said.role, "content": text})
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in shown.images]
    return kept_json({"role": "user", "content": parts})
