"""What the agents of a worker work with."""

from __future__ import annotations

from dataclasses import dataclass

from hermes_actors.config.model import Compaction
from workers.models.chain import ModelChain
from workers.runtimes.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """What the agents of a worker work with, as one configuration says. A turn keeps to the one it began with."""

    models: ModelChain  # the next configuration's too, where nothing of them has changed
    runtime: Runtime  # that runs their turns
    compaction: Compaction | None  # when a conversation is summarised; None: never
    max_turns: int  # model calls in one turn
    system_prompt: str | None  # of every conversation
    resume_fresh_s: float  # how old a cut may be whose work the model is asked to take up again
    stuck_threshold: int  # how many cuts in a row suspend a session
