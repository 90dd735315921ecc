"""The model of the workload: answers at once, calls the counting tool, or waits at a gate, as the message says."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from fakes.model_server import Answer, ModelServer, call_tools, say

TOOL = "mcp__counting__count"
_WORDS = re.compile(r"\[(\w+)=([^\]]*)\]")


class WorkloadModel(ModelServer):
    """Understands ``[id=…]``, ``[tool=<seconds>]`` and ``[gate=…]`` in the last user message."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()  # first requests of a turn, by the message's id
        self.gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.faults: list[str] = []  # requests that no model may get

    def _directed(self, body: Mapping[str, Any]) -> Answer:
        messages = body["messages"]
        at = max(n for n, message in enumerate(messages) if message["role"] == "user")
        said = dict(_WORDS.findall(messages[at]["content"]))
        if sum(message["role"] == "system" for message in messages) > 1:
            self.faults.append(f"{said['id']}: more than one system message")
        if at == len(messages) - 1:
            self.asked[said["id"]] += 1
            if "tool" in said:
                return call_tools((TOOL, json.dumps({"id": said["id"], "seconds": float(said["tool"])})))
        gate = self.gates[said["gate"]] if "gate" in said else None
        return say(f"did {said['id']} as told", gate=gate)
