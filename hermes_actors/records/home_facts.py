"""What is fixed for a home's life, in a file of its own: a registry that is lost must not change it.

The number of shards decides which file a session is in.
"""

from __future__ import annotations

import structlog
from pydantic import BaseModel, Field, ValidationError

from hermes_actors.disk import files
from hermes_actors.home import Home

log = structlog.get_logger(__name__)

MOST_SHARDS = 100_000  # more than any home has; what says more is no such file


class HomeFacts(BaseModel, frozen=True, strict=True):
    """The registry has them too; where the two differ, it is right."""

    home: str = Field(min_length=1)  # names the home, whatever its path
    shards: int = Field(ge=1, le=MOST_SHARDS)


def read_facts(home: Home) -> HomeFacts | None:
    """What the file says; None where there is none, or none that can be read."""
    try:
        return HomeFacts.model_validate_json(home.facts.read_bytes())
    except (OSError, ValidationError):  # it is written again from the registry
        return None


def write_facts(home: Home, facts: HomeFacts) -> None:
    """Write the file, durable when this returns. Where that fails the next start does it."""
    try:
        files.replace(home.facts, f"{facts.model_dump_json()}\n".encode(), draft=files.beside(home.facts, ".tmp"))
    except OSError as error:
        log.warning("what is fixed for this home is not written beside its registry", why=str(error))
