"""A real tool server behind a gateway whose model keeps every request: what that model was sent is what is judged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from fakes.model_server import Answer, ModelServer, refuse
from fakes.running_gateway import RunningGateway
from real_tools.definitions import LONGEST_DESCRIPTION, MOST_TOOLS, faults, long_descriptions
from real_tools.servers import ToolServer

GONE_S = 5.0  # for what a gateway started, once it has stopped
CONNECT_S = 60.0  # some take a while on a busy machine


@dataclass(slots=True, kw_only=True)
class Seen:
    """Of a server, or of several at once."""

    name: str
    package: str = ""
    missing: str = ""  # why it was not met
    offered: int = 0
    kilobytes: float = 0.0  # of the definitions, as sent
    left_out: list[str] = field(default_factory=list)
    instructions: bool | None = None  # None: the server has none
    called: str = ""  # the tool that was called
    shortened: str = ""  # what became of a refusal of the definitions
    wrong: list[str] = field(default_factory=list)


def on(model: ModelServer, entries: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with these tool servers."""
    patient: dict[str, Any] = {"connect_timeout": CONNECT_S, "required": True}
    return {
        "model": {"provider": "custom", "default": "fake-1", "base_url": model.base_url},
        "supervisor": {"workers": 1},
        "mcp_servers": {name: patient | entry for name, entry in entries.items()},
    }


def as_openai_refuses(param: str, message: str, code: str) -> Answer:
    """OpenAI's words for definitions that are too much."""
    error = {"message": f"Invalid '{param}': {message}", "type": "invalid_request_error", "param": param, "code": code}
    return refuse(400, {"error": error})


async def meet(server: ToolServer, folder: Path, work: Path) -> Seen:
    """One server alone.

    Raises:
        Unavailable: it is not to be had.
    """
    entries = {server.name: await asyncio.to_thread(server.entry, folder, work)}
    seen = Seen(name=server.name, package=server.package, called=server.call)
    async with ModelServer() as model:
        async with RunningGateway(work / "home", on(model, entries)) as gateway:
            said = f"[[tool:{server.call}:{json.dumps(server.given(work))}]]"
            answer = await gateway.say(said, "one")
            _judge_offer(seen, server, model)
            _judge_result(seen, server, model, answer)
            await _refuse_descriptions(seen, gateway, model)
            started = gateway.processes()
        _, alive = await asyncio.to_thread(psutil.wait_procs, started, GONE_S)
        seen.wrong += [f"process {process.pid} was left" for process in alive]
    return seen


def _judge_offer(seen: Seen, server: ToolServer, model: ModelServer) -> None:
    first = model.requests[0].body
    tools = first.get("tools") or []
    names = {tool["function"]["name"].partition(f"mcp__{server.name}__")[2] for tool in tools}
    seen.offered, seen.kilobytes = len(tools), len(json.dumps(tools)) / 1000
    seen.wrong += faults(tools)
    seen.left_out = sorted(server.left_out - names)
    seen.wrong += [f"{name} is on offer, though no call of it can succeed" for name in sorted(server.left_out & names)]
    if len(tools) != server.tools - len(server.left_out):
        seen.wrong.append(f"{len(tools)} tools offered of {server.tools}")
    if server.instructions:
        system = [message["content"] for message in first["messages"] if message["role"] == "system"]
        seen.instructions = any(server.instructions in text for text in system)
        seen.wrong += [] if seen.instructions else ["the server's instructions were not sent"]
        seen.wrong += ["more than one system message"] if len(system) > 1 else []


def _judge_result(seen: Seen, server: ToolServer, model: ModelServer, answer: str) -> None:
    (result,) = [message for message in model.last.body["messages"] if message["role"] == "tool"] or [{"content": ""}]
    times = json.dumps(result["content"], ensure_ascii=False).count(server.once)
    if times != 1:
        seen.wrong.append(f"the result says {server.once!r} {times} times: {str(result['content'])[:200]!r}")
    if not answer.startswith("tools said: "):
        seen.wrong.append(f"the turn ended with {answer[:100]!r}")


async def _refuse_descriptions(seen: Seen, gateway: RunningGateway, model: ModelServer) -> None:
    """Where descriptions are longer than OpenAI takes, refuse them once in its words, and look at what is sent then."""
    tools = model.requests[0].body.get("tools") or []
    long = long_descriptions(tools)
    if not long:
        return
    length = len(tools[long[0]]["function"]["description"])
    model.script(
        as_openai_refuses(
            f"tools[{long[0]}].function.description",
            f"string too long. Expected a string with maximum length {LONGEST_DESCRIPTION}, "
            f"but instead got a string with length {length} instead.",
            "string_above_max_length",
        )
    )
    before = model.count
    status, body, _ = await gateway.chat("hello", "two")
    _judge_refused(seen, model, status, body, model.count - before, f"{len(long)} descriptions")


def _judge_refused(seen: Seen, model: ModelServer, status: int, body: Any, asked: int, what: str) -> None:
    tools: Sequence[Mapping[str, Any]] = model.last.body.get("tools") or []
    if status != 200:
        seen.wrong.append(f"{what} refused, and so the turn: {status} {body['error']['message'][:200]}")
    elif asked != 2:
        seen.wrong.append(f"{what} refused once, the model asked {asked} times")
    elif what.endswith("descriptions"):
        seen.shortened = f"{what} shortened"
        seen.wrong += [f"{what} refused, and sent again"] if long_descriptions(tools) else []
    else:
        seen.shortened = f"{len(tools)} of {what}"
        seen.wrong += [f"{what} refused, and sent again"] if len(tools) > MOST_TOOLS else []


async def meet_all(servers: Sequence[ToolServer], folder: Path, work: Path) -> Seen:
    """Several servers at once, more tools than OpenAI takes in a request.

    Raises:
        Unavailable: one is not to be had.
    """
    entries = {server.name: await asyncio.to_thread(server.entry, folder, work) for server in servers}
    seen = Seen(name=" + ".join(entries))
    async with ModelServer() as model, RunningGateway(work / "home", on(model, entries)) as gateway:
        await gateway.say("hello", "one")
        tools = model.last.body["tools"]
        seen.offered, seen.kilobytes = len(tools), len(json.dumps(tools)) / 1000
        seen.wrong += faults(tools)
        if len(tools) <= MOST_TOOLS:
            seen.wrong.append(f"only {len(tools)} tools")
        length = (
            f"Expected an array with maximum length {MOST_TOOLS}, but instead got an array with length {len(tools)}"
        )
        model.script(as_openai_refuses("tools", f"array too long. {length} instead.", "array_above_max_length"))
        before = model.count
        status, body, _ = await gateway.chat("hello", "two")
        _judge_refused(seen, model, status, body, model.count - before, f"{len(tools)} tools")
    return seen
