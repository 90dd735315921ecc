"""Which time-out must be below which, over all sections of the configuration and the systemd unit. Pure.

    drain deadline  <  end of the supervisor  <  TimeoutStopSec of the unit
    connecting to a provider  <  the first piece of its answer
    drain deadline  <  how long an Idempotency-Key is remembered

A drain may be shorter than a turn, a model call or a tool call: what it cuts is marked and goes on later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from hermes_actors.config.model import Config
from hermes_actors.config.problems import Problem

AFTER_DRAIN_S = 30.0  # from the deadline of a drain to the end of the supervisor: marking, cutting, ending processes
IDEMPOTENCY_S = 24 * 3600.0  # how long the key of a message is remembered
START_S = 120.0  # until the workers serve: a large registry, many shards to recover, a machine that just booted
WATCHDOG_S = 60.0  # without a sign from the supervisor, after which systemd replaces it


def stop_timeout_s(config: Config) -> int:
    """``TimeoutStopSec``: above what a stop may take."""
    return math.ceil(config.agent.restart_drain_timeout + AFTER_DRAIN_S)


def contradictions(config: Config) -> Iterator[Problem]:
    """Time-outs that cannot hold together, each with the smallest change that mends it."""
    model, drain_s = config.model, config.agent.restart_drain_timeout
    if "connect_timeout" in model.model_fields_set and model.connect_timeout > model.first_token_timeout:
        yield Problem(
            what=f"{model.connect_timeout:g} s is above model.first_token_timeout ({model.first_token_timeout:g} s), "
            "which includes connecting, so it could never be reached",
            remedy=f"set it to {model.first_token_timeout:g} or less, or raise first_token_timeout",
            path=("model", "connect_timeout"),
        )
    if drain_s > IDEMPOTENCY_S - AFTER_DRAIN_S:
        yield Problem(
            what=f"{drain_s:g} s is longer than an Idempotency-Key is remembered ({IDEMPOTENCY_S:g} s): a caller who "
            "repeats a message after the drain would have it run twice",
            remedy=f"set it to {IDEMPOTENCY_S - AFTER_DRAIN_S:g} or less",
            path=("agent", "restart_drain_timeout"),
        )
