"""The fields of a response object that repeat what was asked, with the specification's values where nothing was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.ingress.http.completion import BARE_MODEL, MODEL

_EFFORTS = ("none", "low", "medium", "high", "xhigh")


def echoed(given: Mapping[str, Any], *, stored: bool, background: bool) -> dict[str, Any]:
    """The fields of a response object that say what was asked.

    Args:
        given: the request's fields that are not null, checked.
        stored: whether the response is kept.
        background: whether its caller does not wait.
    """
    reasoning = given.get("reasoning")
    return {
        "model": BARE_MODEL if given.get("model") == BARE_MODEL else MODEL,
        "previous_response_id": given.get("previous_response_id"),
        "instructions": given.get("instructions"),
        "tools": [_echoed_tool(tool) for tool in given.get("tools", ())],
        "tool_choice": _echoed_choice(given.get("tool_choice", "auto")),
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "text": _echoed_text(given.get("text", {})),
        "reasoning": None if reasoning is None else _echoed_reasoning(reasoning),
        "temperature": given.get("temperature", 1.0),
        "top_p": given.get("top_p", 1.0),
        "presence_penalty": given.get("presence_penalty", 0.0),
        "frequency_penalty": given.get("frequency_penalty", 0.0),
        "top_logprobs": 0,
        "max_output_tokens": given.get("max_output_tokens"),
        "max_tool_calls": None,
        "truncation": given.get("truncation", "disabled"),
        "store": stored,
        "background": background,
        "service_tier": "default",
        "metadata": given.get("metadata", {}),
        "safety_identifier": given.get("safety_identifier"),
        "prompt_cache_key": given.get("prompt_cache_key"),
    }


def _echoed_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", **{name: tool.get(name) for name in ("name", "description", "parameters", "strict")}}


def _echoed_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice["type"] != "allowed_tools":
        return {"type": "function", "name": choice["name"]}
    tools = [{"type": "function", "name": tool["name"]} for tool in choice["tools"]]
    return {"type": "allowed_tools", "tools": tools, "mode": choice.get("mode") or "auto"}


def _echoed_text(text: Mapping[str, Any]) -> dict[str, Any]:
    form = text.get("format") or {"type": "text"}
    echoed: dict[str, Any] = {"format": {"type": form["type"]}}
    if form["type"] == "json_schema":
        # In a response object of the specification the schema is always null: the client has it.
        echoed["format"] |= {
            "name": form.get("name") or "response",
            "description": form.get("description"),
            "schema": None,
            "strict": form.get("strict") or False,
        }
    if text.get("verbosity") is not None:
        echoed["verbosity"] = text["verbosity"]
    return echoed


def _echoed_reasoning(reasoning: Mapping[str, Any]) -> dict[str, Any]:
    """The effort and the summary; null where it is a word that the specification has not."""
    effort, summary = reasoning.get("effort"), reasoning.get("summary")
    return {
        "effort": effort if effort in _EFFORTS else None,
        "summary": summary if summary in ("auto", "concise", "detailed") else None,
    }
