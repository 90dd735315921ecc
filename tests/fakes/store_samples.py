"""Turns to store, and a clock to set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from workers.store.shard import ShardStore
from workers.turns import Ended, Origin, Submission

KEY = "api:default:anna"
SESSION = "sess_anna"
Reopen: TypeAlias = Callable[[int], Awaitable[ShardStore]]  # open the shard again, with this fence
BOUND_S = 10.0  # of every wait for something that will happen


def submission(turn_id: str = "turn_1", **changed: Any) -> Submission:
    values: dict[str, Any] = {
        "turn_id": turn_id,
        "key": KEY,
        "principal": "default",
        "stateless": False,
        "messages": [f'{{"role":"user","content":"said in {turn_id}"}}'.encode()],
        "parameters": {"temperature": 0.5, "stop": ["\n"]},
        "idempotency_key": None,
        "fingerprint": b"\x00\xff",
        "origin": Origin(ingress="http", request_id="req_1"),
    }
    return Submission(**(values | changed))


def ended(turn_id: str = "turn_1", **changed: Any) -> Ended:
    values: dict[str, Any] = {
        "turn_id": turn_id,
        "session_id": SESSION,
        "state": "completed",
        "text": "hello",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        "model": "demo",
        "error": None,
        "replayed": False,
    }
    return Ended(**(values | changed))


@dataclass(slots=True)
class Clock:
    """Seconds since the epoch, as the test says."""

    time: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time
