"""The frozen configuration types, as in ``config.yaml`` (docs/reference/configuration.md).

Names follow hermes-agent where the thing is the same. No value here is a secret: entries name environment variables
(``key_env``, ``${VAR}``), whose values travel beside the configuration in :class:`Settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelConfig(_Section):
    """The primary model."""

    provider: Literal["openai", "custom", "demo"] = "openai"
    default: Annotated[str, Field(min_length=1)] = "gpt-5-mini"
    base_url: str = "https://api.openai.com/v1"
    key_env: str | None = None
    connect_timeout: Seconds = 10.0
    first_token_timeout: Seconds = 120.0
    inter_token_timeout: Seconds = 60.0


class FallbackProvider(_Section):
    """One entry of the fallback chain, complete in itself."""

    provider: Literal["openai", "custom", "demo"] = "custom"
    model: Annotated[str, Field(min_length=1)]
    base_url: str
    key_env: str | None = None


class ToolFilter(_Section):
    """Which of a server's tools an agent sees; names or shell globs. ``include`` wins over ``exclude``."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class McpServer(_Section):
    """One MCP server: ``command`` (stdio) or ``url`` (streamable HTTP)."""

    command: str | None = None
    args: tuple[str, ...] = ()
    cwd: str | None = None
    env: Mapping[str, str] = Field(default_factory=dict)
    url: str | None = None
    headers: Mapping[str, str] = Field(default_factory=dict)
    enabled: bool = True
    required: bool = False
    scope: Literal["session", "worker"] = "session"
    protocol: Literal["auto", "legacy"] = "auto"
    timeout: Seconds = 120.0
    connect_timeout: Seconds = 60.0
    tools: ToolFilter = ToolFilter()


class AgentConfig(_Section):
    """How an agent runs a turn, and how long a stop waits for running turns."""

    max_turns: Count = 90
    restart_drain_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    system_prompt: str | None = None
    api_max_retries: Annotated[int, Field(ge=0)] = 3


class SupervisorConfig(_Section):
    """The pool of workers and when a worker counts as hung or hopeless."""

    workers: Count | Literal["auto"] = "auto"
    shards: Count | Literal["auto"] = "auto"
    stuck_threshold: Count = 3
    heartbeat_seconds: Seconds = 5.0
    max_restarts: Annotated[int, Field(ge=0)] = 5
    restart_window_seconds: Seconds = 60.0


class SessionsConfig(_Section):
    """How many agents stay in memory, for how long, and how much mail one may have waiting."""

    max_resident_per_worker: Count = 2000
    idle_ttl_seconds: Seconds = 3600.0
    mailbox_limit: Count = 32


class PrincipalKey(_Section):
    """A named API key: who the caller is."""

    key_env: Annotated[str, Field(min_length=1)]


class ApiServerConfig(_Section):
    """The public HTTP listener."""

    host: str = "127.0.0.1"
    port: Port = 8642
    key_env: str | None = None
    keys: Mapping[str, PrincipalKey] = Field(default_factory=dict)
    max_body_bytes: Count = 10 * 1024 * 1024


class AdminConfig(_Section):
    """The admin listener of the supervisor."""

    host: str = "127.0.0.1"
    port: Port = 8643


class StoreConfig(_Section):
    """``power_loss``: a commit survives power loss. ``process``: it survives the death of every process of ours."""

    durability: Literal["power_loss", "process"] = "power_loss"


class Config(_Section):
    """The whole of ``config.yaml``."""

    model: ModelConfig = ModelConfig()
    fallback_providers: tuple[FallbackProvider, ...] = ()
    mcp_servers: Mapping[str, McpServer] = Field(default_factory=dict)
    agent: AgentConfig = AgentConfig()
    supervisor: SupervisorConfig = SupervisorConfig()
    sessions: SessionsConfig = SessionsConfig()
    api_server: ApiServerConfig = ApiServerConfig()
    admin: AdminConfig = AdminConfig()
    store: StoreConfig = StoreConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A configuration with the values of the variables it names, ready to run."""

    config: Config
    environment: Mapping[str, str]  # only the variables that the configuration names; secrets live here
    api_keys: Mapping[str, str]  # principal -> bearer key; never empty
