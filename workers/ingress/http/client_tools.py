"""The tools that a client brings with a request, in the form of chat completions: checked, never changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from workers.ingress.http.errors import invalid

MAX_TOOLS = 512  # of one request; providers take fewer, and say so
MAX_DESCRIPTION_CHARS = 32 * 1024

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CHOICES = ("auto", "none", "required")
_NO_SUCH_TOOL = "no_such_tool"


def client_tools(request: Mapping[str, Any]) -> dict[str, Any]:
    """``tools``, ``tool_choice`` and ``parallel_tool_calls`` of a request, as a turn's parameters carry them.

    Raises:
        ApiError: 400, with the field it is about.
    """
    tools, choice, parallel = (request.get(name) for name in ("tools", "tool_choice", "parallel_tool_calls"))
    if parallel is not None and not isinstance(parallel, bool):
        raise invalid("parallel_tool_calls", "`parallel_tool_calls` must be true or false.")
    if tools is not None and not isinstance(tools, list):
        raise invalid("tools", "`tools` must be an array of tools.")
    if not tools:
        if choice in (None, "auto", "none"):
            return {}
        raise invalid("tool_choice", "`tool_choice` asks for a tool, and `tools` has none.")
    if len(tools) > MAX_TOOLS:
        raise invalid("tools", f"`tools` may have {MAX_TOOLS} tools; this has {len(tools)}.")
    names: dict[str, int] = {}
    for at, tool in enumerate(tools):
        name = _name_of(tool, f"tools[{at}]")
        if names.setdefault(name, at) != at:
            raise invalid(
                f"tools[{at}].function.name", f"`tools[{at}]` has the name of `tools[{names[name]}]`, {name}."
            )
    kept: dict[str, Any] = {"tools": tools}
    if choice is not None:
        _check_choice(choice, names)
        kept["tool_choice"] = choice
    if parallel is not None:
        kept["parallel_tool_calls"] = parallel
    return kept


def _name_of(tool: Any, where: str) -> str:
    if not isinstance(tool, dict):
        raise invalid(where, f"`{where}` must be an object.")
    kind = tool.get("type")
    if kind != "function":
        raise invalid(f"{where}.type", f"`{where}.type` must be function: other tools are not known here.")
    name = _function_name(tool, where)
    function = tool["function"]
    described = function.get("description")
    if described is not None and (not isinstance(described, str) or len(described) > MAX_DESCRIPTION_CHARS):
        raise invalid(
            f"{where}.function.description",
            f"`{where}.function.description` must be a string of at most {MAX_DESCRIPTION_CHARS} characters.",
        )
    if function.get("strict") is not None and not isinstance(function["strict"], bool):
        raise invalid(f"{where}.function.strict", f"`{where}.function.strict` must be true or false.")
    if function.get("parameters") is not None:
        _check_schema(function["parameters"], f"{where}.function.parameters")
    return name


def _function_name(tool: Mapping[str, Any], where: str) -> str:
    function = tool.get("function")
    if not isinstance(function, dict):
        raise invalid(f"{where}.function", f"`{where}.function` must be an object with a `name`.")
    name = function.get("name")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise invalid(
            f"{where}.function.name",
            f"`{where}.function.name` must have 1 to 64 letters, digits, underscores and hyphens.",
        )
    return name


def _check_schema(schema: Any, where: str) -> None:
    """What every provider wants of the schema of arguments: that of an object. The rest is the provider's to judge."""
    if not isinstance(schema, dict):
        raise invalid(where, f"`{where}` must be a JSON Schema.")
    if schema.get("type", "object") != "object":
        raise invalid(f"{where}.type", f"`{where}.type` must be object: arguments are a JSON object.")
    properties = schema.get("properties")
    if properties is not None and not isinstance(properties, dict):
        raise invalid(f"{where}.properties", f"`{where}.properties` must be an object of schemas.")
    for name, inner in (properties or {}).items():
        if not isinstance(inner, dict | bool):
            raise invalid(f"{where}.properties.{name}", f"`{where}.properties.{name}` must be a JSON Schema.")
    required = schema.get("required")
    if required is not None and not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
        raise invalid(f"{where}.required", f"`{where}.required` must be an array of names.")


def _check_choice(choice: Any, names: Collection[str]) -> None:
    if isinstance(choice, str) and choice in _CHOICES:
        return
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "function":
        _check_named(choice, "tool_choice", names)
    elif kind == "allowed_tools":
        allowed = choice.get("allowed_tools")
        if not isinstance(allowed, dict) or allowed.get("mode") not in ("auto", "required"):
            raise invalid(
                "tool_choice.allowed_tools.mode", "`tool_choice.allowed_tools.mode` must be auto or required."
            )
        tools = allowed.get("tools")
        if not isinstance(tools, list) or not tools:
            raise invalid("tool_choice.allowed_tools.tools", "`tool_choice.allowed_tools.tools` must name tools.")
        for at, tool in enumerate(tools):
            where = f"tool_choice.allowed_tools.tools[{at}]"
            if not isinstance(tool, dict):
                raise invalid(where, f"`{where}` must be an object.")
            _check_named(tool, where, names)
    else:
        raise invalid("tool_choice", "`tool_choice` must be auto, none, required, a function, or allowed_tools.")


def _check_named(choice: Mapping[str, Any], where: str, names: Collection[str]) -> None:
    name = _function_name(choice, where)
    if name not in names:
        raise invalid(
            f"{where}.function.name", f"`{where}.function.name` is {name}, which `tools` has not.", _NO_SUCH_TOOL
        )
