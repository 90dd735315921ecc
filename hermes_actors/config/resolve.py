"""The variables that a configuration names: are they set, and fit for their place? Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from hermes_actors.config import rules
from hermes_actors.config.model import Config, McpServer, ModelEndpoint
from hermes_actors.config.problems import KeyPath, Problem, unset_variable
from hermes_actors.config.rules import Unfit
from hermes_actors.config.variables import BadReference, UnsetVariable, interpolate, variables_in


@dataclass(slots=True)
class Resolved:
    """What was found; it grows while the configuration is walked."""

    environment: dict[str, str] = field(default_factory=dict)  # the variables that the configuration names
    api_keys: dict[str, str] = field(default_factory=dict)  # principal -> bearer key
    problems: list[Problem] = field(default_factory=list)


def resolve(config: Config, variables: Mapping[str, str]) -> Resolved:
    """The values of all the variables that a configuration names, and what is wrong with them.

    Variables of disabled MCP servers are neither wanted nor kept.
    """
    found = Resolved()
    _model_key(config.model, ("model", "key_env"), variables, found)
    for index, fallback in enumerate(config.fallback_providers):
        _model_key(fallback, ("fallback_providers", index, "key_env"), variables, found)
    _api_keys(config, variables, found)
    for name, server in config.mcp_servers.items():
        if server.enabled:
            for path, text, check in interpolated(("mcp_servers", name), server):
                _references(path, text, check, variables, found)
    return found


def _model_key(endpoint: ModelEndpoint, path: KeyPath, variables: Mapping[str, str], found: Resolved) -> None:
    if endpoint.provider != "demo" and endpoint.key_env is not None:
        _named(endpoint.key_env, path, rules.bearer, variables, found)


def _api_keys(config: Config, variables: Mapping[str, str], found: Resolved) -> None:
    """Read each caller's key; nothing distinguishes two callers with one key."""
    for principal, name in config.api_server.key_variables.items():
        path: KeyPath = ("api_server", "key_env")
        if principal in config.api_server.keys:
            path = ("api_server", "keys", principal, "key_env")
        key = _named(name, path, rules.api_key, variables, found)
        if key is None:
            continue
        same = next((other for other, taken in found.api_keys.items() if taken == key), None)
        if same is not None:
            what = f"{principal} and {same} have the same key"
            found.problems.append(Problem(what=what, path=path, remedy="give each caller a key of its own"))
        found.api_keys[principal] = key


def _named(
    name: str, path: KeyPath, check: Callable[[str], str], variables: Mapping[str, str], found: Resolved
) -> str | None:
    """The value of a variable that a ``key_env`` names, or None with a problem noted."""
    value = variables.get(name)
    if not value:
        found.problems.append(unset_variable(name, path, "is not set" if value is None else "is empty"))
        return None
    try:
        check(value)
    except Unfit as unfit:
        what = f"the variable {name} must hold {unfit}"
        found.problems.append(Problem(what=what, path=path, remedy=unfit.remedy))
        return None
    found.environment[name] = value
    return value


def interpolated(path: KeyPath, server: McpServer) -> Iterator[tuple[KeyPath, str, Callable[[str], str]]]:
    """The texts of a server in which ``${VAR}`` stands for a variable, and what each must look like afterwards."""
    for key, text in (("command", server.command), ("cwd", server.cwd)):
        if text is not None:
            yield (*path, key), text, rules.child_text
    if server.url is not None:
        yield (*path, "url"), server.url, rules.http_url
    for index, text in enumerate(server.args):
        yield (*path, "args", index), text, rules.child_text
    for name, text in server.env.items():
        yield (*path, "env", name), text, rules.child_text
    for name, text in server.headers.items():
        yield (*path, "headers", name), text, rules.header_value


def _references(
    path: KeyPath, text: str, check: Callable[[str], str], variables: Mapping[str, str], found: Resolved
) -> None:
    try:
        named = {name: variables[name] for name in variables_in(text) if name in variables}
        check(interpolate(text, named))
    except UnsetVariable as unset:
        found.problems.append(unset_variable(unset.name, path, "is not set"))
    except (Unfit, BadReference) as error:
        remedy = error.remedy if isinstance(error, Unfit) else ""
        found.problems.append(Problem(what=f"expected {error}", path=path, remedy=remedy))
    else:
        found.environment |= named
