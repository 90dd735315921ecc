"""What a valid list of chat messages is, by the rules of a request and not by our code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

TEXT = ("text",)
TEXT_AND_PICTURES = ("text", "image_url")


def problems(messages: Sequence[dict[str, Any]], *, vision: bool = True) -> list[str]:
    """Each rule that the messages break, and where."""
    found: list[str] = []
    open_calls: list[str] = []  # of the assistant message before, without a result yet
    ids: set[str] = set()
    for at, message in enumerate(messages):
        role = message.get("role")
        if role not in ("system", "user", "assistant", "tool"):
            found.append(f"{at}: role {role!r}")
        if role == "system" and at:
            found.append(f"{at}: a system message that is not the first")
        if role == "tool":
            if message.get("tool_call_id") in open_calls:
                open_calls.remove(message["tool_call_id"])
            else:
                found.append(f"{at}: a result of no open call")
        elif open_calls:
            found.append(f"{at}: calls before it have no result")
            open_calls = []
        if role == "assistant" and "tool_calls" in message:
            for call in message["tool_calls"]:
                found += [f"{at}: {problem}" for problem in call_problems(call, ids)]
                ids.add(call["id"])
                open_calls.append(call["id"])
            if not message["tool_calls"]:
                found.append(f"{at}: an empty list of calls")
        found += [f"{at}: {problem}" for problem in content_problems(message, vision=vision)]
    if open_calls:
        found.append("the last calls have no result")
    return found


def call_problems(call: dict[str, Any], ids: set[str]) -> list[str]:
    found = []
    if not isinstance(call["id"], str) or not call["id"] or call["id"] in ids:
        found.append("an id that is empty or there twice")
    if call["type"] != "function":
        found.append("a call of no function")
    name = call["function"]["name"]
    if not 1 <= len(name) <= 64 or not all(char.isascii() and (char.isalnum() or char in "_-") for char in name):
        found.append("a function's name that providers refuse")
    try:
        if not isinstance(json.loads(call["function"]["arguments"]), dict):
            found.append("arguments that are no object")
    except (TypeError, ValueError):
        found.append("arguments that are no JSON")
    return found


def content_problems(message: dict[str, Any], *, vision: bool) -> list[str]:
    content = message["content"]
    if content is None:
        return [] if message.get("tool_calls") else ["no content"]
    if isinstance(content, str):
        return [] if content.strip() else ["an empty message"]
    if message["role"] != "user":
        return ["a content of parts"]
    if not content:
        return ["an empty message"]
    kinds = TEXT_AND_PICTURES if vision else TEXT
    return [f"a part that is {part!r}" for part in content if part["type"] not in kinds or part.get("text") == ""]
