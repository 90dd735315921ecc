"""The frozen configuration types, as in ``config.yaml`` (docs/reference/configuration.md).

Names follow hermes-agent where the thing is the same. ``key_env``, and the texts of MCP servers, name environment
variables, whose values travel beside the configuration in :class:`Settings`; in all other texts they are filled in
(:mod:`.filled`). What may hold a secret is left out of ``repr``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    model_validator,
)

from hermes_actors.config import rules
from hermes_actors.config.rules import Unfit
from hermes_actors.wire.frames import MAX_FRAME_BYTES

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
API_SERVER_KEY = "API_SERVER_KEY"
DEFAULT_PRINCIPAL = "default"

MAX_SECONDS = 366 * 24 * 3600.0  # no wait is longer than a year
MAX_COUNT = 1_000_000_000
MAX_WORKERS = 1024
MIN_CONTEXT_TOKENS = 256
MIN_DESCRIPTION_CHARS = 64
MAX_KEPT_TURNS = 100
OFF = "off"  # of ``agent.compaction``
MAX_RESPONSE_DAYS = 3650
MAX_BODY_BYTES = MAX_FRAME_BYTES - 1024 * 1024  # a body travels to its session's worker in one frame

When: TypeAlias = Literal["now", "next_turn", "restart"]  # a changed key applies; a running turn keeps its own
T = TypeVar("T")
Now = Annotated[T, "now"]
NextTurn = Annotated[T, "next_turn"]
Restart = Annotated[T, "restart"]

Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Number = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Port = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, Field(min_length=1)]
Host = Annotated[str, AfterValidator(rules.listen_host)]
BaseUrl = Annotated[str, AfterValidator(rules.base_url)]
ServerUrl = Annotated[str, AfterValidator(rules.server_url)]
VariableName = Annotated[str, AfterValidator(rules.variable_name)]
ServerName = Annotated[str, AfterValidator(rules.server_name)]
PrincipalName = Annotated[str, AfterValidator(rules.principal_name)]
Origin = Annotated[str, AfterValidator(rules.web_origin)]
HeaderName = Annotated[str, AfterValidator(rules.header_name)]
HeaderValue = Annotated[str, AfterValidator(rules.header_value)]
ChildText = Annotated[str, AfterValidator(rules.child_text)]
ChildVariable = Annotated[str, AfterValidator(rules.child_variable)]
Provider = Literal["openai", "custom", "demo"]
ContextLength = Annotated[int, Field(ge=MIN_CONTEXT_TOKENS, le=MAX_COUNT)]


class Section(BaseModel):
    """A mapping of ``config.yaml`` with fixed keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )


def _openai_key(given: dict[str, Any]) -> str | None:
    return OPENAI_KEY if given.get("provider") == "openai" else None


class ModelEndpoint(Section):
    """Where a model is reached, and with which key."""

    provider: NextTurn[Provider] = "openai"
    """``openai``; ``custom``: anything else that speaks chat completions; ``demo``: the built-in local model."""
    base_url: NextTurn[BaseUrl] = Field(default=OPENAI_URL, repr=False)
    """URL below which ``/chat/completions`` lies. ``custom`` must give it."""
    key_env: NextTurn[VariableName | None] = Field(default_factory=_openai_key)
    """Variable with the API key. ``openai`` must have one; without one, ``custom`` sends no key."""

    context_length: NextTurn[ContextLength | None] = None
    """The model's window; none: learned from the provider."""
    vision: NextTurn[bool | None] = None
    """Whether the model takes pictures; none: tried, and learned from a refusal."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.provider == "custom" and "base_url" not in self.model_fields_set:
            raise Unfit(
                "base_url beside provider: custom", "add the URL of the endpoint, like http://localhost:8000/v1"
            )
        if self.provider == "openai" and self.key_env is None:
            raise Unfit("key_env beside provider: openai", "for an endpoint without a key, use provider: custom")
        return self


class ModelConfig(ModelEndpoint):
    """The primary model."""

    default: NextTurn[Name] = "gpt-5-mini"
    """The model's id, as its provider knows it."""
    connect_timeout: NextTurn[Seconds] = 10.0
    """How long to wait for a connection to the provider."""
    first_token_timeout: NextTurn[Seconds] = 120.0
    """How long to wait for the first piece of an answer."""
    inter_token_timeout: NextTurn[Seconds] = 60.0
    """How long to wait between two pieces of an answer."""


class FallbackProvider(ModelEndpoint):
    """One entry of the fallback chain, complete in itself: nothing is inherited from ``model``."""

    provider: Provider = "custom"
    """As in ``model``."""
    model: Name
    """The model's id, as its provider knows it."""

    @model_validator(mode="after")
    def _own_key(self) -> Self:
        if self.provider == "openai" and self.base_url != OPENAI_URL and "key_env" not in self.model_fields_set:
            raise Unfit("key_env beside a base_url of its own", f"name the variable; {OPENAI_KEY} is for {OPENAI_URL}")
        return self


class ToolFilter(Section):
    """Which of a server's tools an agent sees."""

    include: tuple[str, ...] = ()
    """Names or shell globs of the tools to show; none means all. Wins over ``exclude``."""
    exclude: tuple[str, ...] = ()
    """Names or shell globs of the tools to hide."""
    max_description: Annotated[int, Field(ge=MIN_DESCRIPTION_CHARS, le=MAX_COUNT)] | None = None
    """How much of a tool's description the model gets; none: all that its provider takes."""


class McpServer(Section):
    """One MCP server: ``command`` (stdio) or ``url`` (streamable HTTP)."""

    command: Annotated[ChildText, Field(min_length=1), AfterValidator(rules.program)] | None = None
    """Program that speaks MCP on its standard input and output."""
    args: tuple[ChildText, ...] = Field(default=(), repr=False)
    """The program's arguments."""
    cwd: Annotated[ChildText, Field(min_length=1)] | None = None
    """Directory in which the program starts."""
    env: Mapping[ChildVariable, ChildText] = Field(default_factory=dict, repr=False)
    """Variables for the program, besides a minimal environment (``HOME``, ``PATH`` and the like)."""
    url: ServerUrl | None = Field(default=None, repr=False)
    """URL of a server that speaks streamable HTTP."""
    headers: Mapping[HeaderName, HeaderValue] = Field(default_factory=dict, repr=False)
    """HTTP headers for each request to ``url``."""
    enabled: bool = True
    """Whether agents get this server; variables of a disabled one need not be set."""
    required: bool = False
    """Whether a turn fails, clearly, where this server cannot be connected."""
    scope: Literal["session", "worker"] = "session"
    """Whether each session has a connection of its own, or the sessions of a worker share one."""
    protocol: Literal["auto", "legacy"] = "auto"
    """``legacy`` skips the question for the newer protocol, for servers that do not bear it."""
    timeout: Seconds = 120.0
    """How long a tool call may take."""
    connect_timeout: Seconds = 60.0
    """How long a connection may take, the program's start included."""
    on_stop: Literal["cancel", "end"] | None = None
    """What a stopped call means to the server's process; none: what is known of the server decides."""
    instructions: bool = True
    """Whether the model gets the server's own instructions."""
    resources: bool = False
    """Whether the model gets tools that list and read the server's resources."""
    tools: ToolFilter = ToolFilter()
    """Which of the server's tools an agent sees, and how much of their descriptions."""

    @model_validator(mode="after")
    def _one_transport(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise Unfit("exactly one of command (a local program) and url (a remote server)")
        if self.command is not None and self.headers:
            raise Unfit("headers beside url only", "a local program gets its secrets in env")
        if self.url is not None and (self.args or self.env or self.cwd is not None):
            raise Unfit("args, cwd and env beside command only", "a remote server gets its secrets in headers")
        return self


class Compaction(Section):
    """When a conversation is summarised so that it fits its model, and what stays as it is."""

    at: Annotated[float, Field(ge=0.1, le=0.95, allow_inf_nan=False)] = 0.8
    """Which share of the model's window a request may fill before."""
    keep_turns: Annotated[int, Field(ge=1, le=MAX_KEPT_TURNS)] = 6
    """How many of the newest turns stay word for word."""


def _compaction(given: object, info: ValidationInfo) -> object:
    """None for ``off``, which YAML reads as false."""
    if given is False or given == OFF:
        return None
    if info.mode == "json" and not isinstance(given, dict):
        raise Unfit(f"keys with values below it, or {OFF}")
    return given


def _said(compaction: Compaction | None) -> str | dict[str, Any]:
    return OFF if compaction is None else compaction.model_dump()


class AgentSection(Section):
    """How an agent runs a turn, and how long a stop waits for running turns."""

    max_turns: NextTurn[Count] = 90
    """How many times one turn may call the model."""
    restart_drain_timeout: Now[Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]] = 60.0
    """How long a stop or restart waits for running turns."""
    system_prompt: NextTurn[str | None] = Field(default=None, repr=False)
    """The system message of every conversation."""
    api_max_retries: NextTurn[Number] = 3
    """How often a request to a provider is repeated after 429, 5xx or a lost connection."""
    compaction: NextTurn[
        Annotated[
            Compaction | None,
            BeforeValidator(_compaction),
            PlainSerializer(_said),
        ]
    ] = Compaction()
    """When a conversation is summarised so that it fits its model; none: never."""


class SupervisorConfig(Section):
    """The pool of workers and when a worker counts as hung or hopeless."""

    workers: Restart[Annotated[int, Field(ge=1, le=MAX_WORKERS)] | Literal["auto"]] = "auto"
    """How many worker processes; ``auto``: one per core."""
    shards: Restart[Annotated[int, AfterValidator(rules.shard_count)] | Literal["auto"]] = "auto"
    """Into how many slices sessions fall; ``auto``: twice the cores, a power of two. Fixed when a home is made."""
    stuck_threshold: Restart[Count] = 3
    """How many cuts in a row by a restart or crash suspend a session."""
    heartbeat_seconds: Restart[Seconds] = 5.0
    """How often a worker says that it lives; after three silent intervals it is replaced."""
    max_restarts: Restart[Number] = 5
    """How many restarts of one worker within ``restart_window_seconds`` are borne before they slow down."""
    restart_window_seconds: Restart[Seconds] = 60.0
    """The window of ``max_restarts``."""


class SessionsConfig(Section):
    """How many agents stay in memory, for how long, and how much mail one may have waiting."""

    max_resident_per_worker: Now[Count] = 2000
    """How many idle agents a worker keeps in memory; more are put to disk, longest idle first."""
    idle_ttl_seconds: Now[Seconds] = 3600.0
    """After how long an idle agent is put to disk."""
    mailbox_limit: Now[Count] = 32
    """How many messages may wait in one session; one more gets HTTP 429."""
    resume_fresh_seconds: Now[Seconds] = 3600.0
    """How long after a cut the agent is asked to go on with it; later it is mentioned as history."""


class PrincipalKey(Section):
    """A named API key: who the caller is."""

    key_env: VariableName
    """Variable with this caller's key."""


def _api_server_key(given: dict[str, Any]) -> str | None:
    return None if given.get("keys") else API_SERVER_KEY


def _default_admins(given: dict[str, Any]) -> tuple[str, ...]:
    has_default = given.get("key_env") is not None or DEFAULT_PRINCIPAL in given.get("keys", ())
    return (DEFAULT_PRINCIPAL,) if has_default else ()


class ApiServerConfig(Section):
    """The public HTTP listener, and who may call it."""

    host: Restart[Host] = "127.0.0.1"
    """Address on which to listen."""
    port: Restart[Port] = 8642
    """TCP port; 0: any free one."""
    keys: Now[Mapping[PrincipalName, PrincipalKey]] = Field(default_factory=dict)
    """Callers by name, each with a key of its own. A session belongs to the caller that made it."""
    key_env: Now[VariableName | None] = Field(default_factory=_api_server_key)
    """Variable with the key of the caller ``default``."""
    admins: Now[tuple[PrincipalName, ...]] = Field(default_factory=_default_admins)
    """Callers who may restart the gateway with ``/restart`` in a message."""
    sampling_parameters: Now[Literal["pass", "drop"]] = "pass"
    """What becomes of the sampling parameters of requests: ``drop`` leaves the choice to the model."""
    cors_origins: Now[tuple[Origin, ...]] = ()
    """Origins of web pages that may call from a browser."""
    response_days: Now[Annotated[int, Field(ge=0, le=MAX_RESPONSE_DAYS)]] = 30
    """How long responses of /v1/responses are kept; 0: not at all."""
    max_body_bytes: Now[Annotated[int, Field(ge=1, le=MAX_BODY_BYTES)]] = 10 * 1024 * 1024
    """Size above which a request gets HTTP 413."""

    @model_validator(mode="after")
    def _has_callers(self) -> Self:
        if self.key_env is None and not self.keys:
            raise Unfit("key_env or keys: every caller shows a key")
        if self.key_env is not None and DEFAULT_PRINCIPAL in self.keys:
            raise Unfit("one key of the caller 'default'", "drop key_env or keys.default")
        return self

    @property
    def key_variables(self) -> dict[str, str]:
        """Who may call, and the variable that holds the caller's key."""
        own = {} if self.key_env is None else {DEFAULT_PRINCIPAL: self.key_env}
        return own | {principal: key.key_env for principal, key in self.keys.items()}


class AdminConfig(Section):
    """The admin listener of the supervisor."""

    host: Restart[Host] = "127.0.0.1"
    """Address on which to listen."""
    port: Restart[Port] = 8643
    """TCP port; 0: any free one."""


class StoreConfig(Section):
    """What a commit survives."""

    durability: Restart[Literal["power_loss", "process"]] = "power_loss"
    """``power_loss``: a commit survives power loss. ``process``: it survives the death of every process of ours."""


class Config(Section):
    """The whole of ``config.yaml``."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    """The primary model."""
    fallback_providers: NextTurn[tuple[FallbackProvider, ...]] = ()
    """Models to try, in order, when the primary one fails."""
    mcp_servers: NextTurn[Mapping[ServerName, McpServer]] = Field(default_factory=dict)
    """MCP servers by name; their tools appear as ``mcp__<server>__<tool>``."""
    agent: AgentSection = AgentSection()
    """How an agent runs a turn."""
    supervisor: SupervisorConfig = SupervisorConfig()
    """The pool of workers."""
    sessions: SessionsConfig = SessionsConfig()
    """What stays in memory."""
    api_server: ApiServerConfig = Field(default_factory=ApiServerConfig)
    """The public HTTP listener."""
    admin: AdminConfig = AdminConfig()
    """The admin listener."""
    store: StoreConfig = StoreConfig()
    """What a commit survives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A configuration with the values of the variables it names, ready to run."""

    config: Config
    environment: Mapping[str, str] = field(repr=False)  # only the variables the configuration names; secrets live here
    api_keys: Mapping[str, str] = field(repr=False)  # principal -> bearer key; never empty
    # The texts of ``config`` that named variables, as they stand in the file, by path: what people are shown of them.
    written: Mapping[tuple[str | int, ...], str] = field(default_factory=dict, compare=False)


def to_plain(config: Config) -> dict[str, Any]:
    """A configuration as what msgpack and JSON carry: dicts, lists, text, numbers."""
    return config.model_dump(mode="json")


def from_plain(plain: dict[str, Any]) -> Config:
    """The configuration that :func:`to_plain` made the dict from.

    Raises:
        ValueError: it is no configuration of this release.
    """
    return Config.model_validate_json(json.dumps(plain))
