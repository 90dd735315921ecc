"""The configuration as it is found: ``config.yaml``, ``.env``, the process environment; the only reader of all three.

What a text means is decided in the pure modules beside this one. Here files are read, problems get their places, and
everything that was found is reported at once.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from hermes_actors.config.document import ConfigDocument, parse
from hermes_actors.config.dotenv import parse_dotenv, with_variable
from hermes_actors.config.explain import explain, nearest_key, wanting_no_text
from hermes_actors.config.files import Unreadable, read_text, replace_private, why
from hermes_actors.config.filled import Filled, fill, retyped
from hermes_actors.config.model import API_SERVER_KEY, Config, McpServer, ModelEndpoint, Settings
from hermes_actors.config.pasted import looks_like_key
from hermes_actors.config.problems import HIDDEN, ConfigError, KeyPath, Problem
from hermes_actors.config.resolve import resolve
from hermes_actors.config.timeouts import contradictions
from hermes_actors.home import PRIVATE_DIRECTORY, PRIVATE_FILE, Home

DEMO_KEY_LOCK_S = 5.0  # two demos that start at once on one home make one key
DEMO_KEY_BYTES = 24

_DURABILITY = {"power_loss": "power loss", "process": "the death of processes, not power loss"}

__all__ = ["ConfigError", "Problem", "ensure_demo_key", "load", "stored", "summary"]


def load(home: Home, *, config_path: Path | None, environ: Mapping[str, str], demo: bool) -> Settings:
    """Read and check the configuration.

    Args:
        home: where ``.env`` is, and ``config.yaml`` unless ``config_path`` names another file.
        config_path: a file that must exist. Without it, ``config.yaml`` of the home may be missing: all defaults.
        environ: the process environment; it wins over ``.env``.
        demo: use the demo model unless the file names a provider, and make an API key if none is configured.

    Raises:
        ConfigError: it cannot be used; it carries every problem that was found.
    """
    owners = home.owners()
    document = _read_config(config_path or home.config, owners, must_exist=config_path is not None)
    dotenv, elsewhere = _read_dotenv(home.env, owners)
    variables = {**dotenv, **environ}
    filled = fill(document.value, variables)
    invalid = [*document.problems, *filled.problems]
    config, mistyped = _validate(filled, {problem.path for problem in invalid}, demo=demo)
    invalid += mistyped
    broken = {_part(problem.path) for problem in invalid}
    if demo and ("api_server",) not in broken and _wants_demo_key(config, variables):
        try:
            variables[API_SERVER_KEY] = ensure_demo_key(home, environ)
        except ConfigError as error:
            elsewhere = (*elsewhere, *error.problems)
            broken.add(("api_server",))
    resolved = resolve(config, variables)

    # What only follows from a part that is broken already would distract.
    following = (*_clashes(config), *contradictions(config), *resolved.problems)
    apart = [problem for problem in following if () not in broken and _part(problem.path) not in broken]
    problems = (*_placed(config_path or home.config, document, (*invalid, *apart)), *elsewhere)
    if problems and document.absent:
        remedy = "write one, or try the built-in model: hermes-supervisor start --demo"
        problems = (Problem(what="there is no such file", remedy=remedy, file=str(home.config)), *problems)
    if problems:
        raise ConfigError(problems)
    return Settings(
        config=config,
        environment={**filled.secrets, **resolved.environment},
        api_keys=resolved.api_keys,
        written=filled.written,
    )


def stored(home: Home) -> Config:
    """What ``config.yaml`` of the home says, for people who look things up; defaults where it cannot be used."""
    variables = {**_read_dotenv(home.env, None)[0], **os.environ}
    filled = fill(_read_config(home.config, None, must_exist=False).value, variables)
    return _validate(filled, set(), demo=False)[0]


def ensure_demo_key(home: Home, environ: Mapping[str, str]) -> str:
    """The API key of a demo: that of the environment or of ``.env``, else a new random one, kept in ``.env``.

    Raises:
        ConfigError: the key cannot be kept.
    """
    if environ.get(API_SERVER_KEY):
        return environ[API_SERVER_KEY]
    try:
        home.root.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        with _demo_key_lock(home):
            text = read_text(home.env) if home.env.exists() else ""
            known = parse_dotenv(text)[0].get(API_SERVER_KEY)
            if known:
                return known
            made = secrets.token_urlsafe(DEMO_KEY_BYTES)
            replace_private(home.env, with_variable(text, API_SERVER_KEY, made))
            return made
    except (OSError, ValueError, NotImplementedError, Timeout, Unreadable) as error:  # a NUL in the path; no file locks
        words = str(error) if isinstance(error, Unreadable) else why(error)
        problem = Problem(
            what=f"the demo's API key cannot be kept here: {words}",
            remedy=f"mend that, or set {API_SERVER_KEY} in the environment",
            file=str(home.env),
        )
        raise ConfigError([problem]) from error


def summary(settings: Settings) -> list[tuple[str, str]]:
    """What a configuration amounts to, as label and text, for people. No secrets. Pure."""
    config = settings.config
    api, supervisor = config.api_server, config.supervisor
    return [
        ("model", _endpoint(settings, ("model",), "default", config.model)),
        *(
            ("fallback", _endpoint(settings, ("fallback_providers", index), "model", entry))
            for index, entry in enumerate(config.fallback_providers)
        ),
        *((f"MCP server {name}", _server(server)) for name, server in config.mcp_servers.items()),
        ("API", f"{_address(api.host, api.port)}, callers: {', '.join(settings.api_keys)}"),
        ("supervisor", f"workers: {supervisor.workers}, shards: {supervisor.shards}"),
        ("store", f"commits survive {_DURABILITY[config.store.durability]}"),
    ]


def _demo_key_lock(home: Home) -> FileLock:
    return FileLock(home.root / ".env.lock", timeout=DEMO_KEY_LOCK_S, mode=PRIVATE_FILE, fallback_to_soft=False)


# -- reading ----------------------------------------------------------------------------------------------------------


def _read_config(file: Path, owners: Collection[int] | None, *, must_exist: bool) -> ConfigDocument:
    try:
        return parse(read_text(file, owners))
    except FileNotFoundError:
        missing = Problem(what="there is no such file", remedy="name an existing file with --config")
        return ConfigDocument(problems=(missing,)) if must_exist else ConfigDocument(absent=True)
    except Unreadable as error:
        return ConfigDocument(problems=(error.problem,))


def _read_dotenv(file: Path, owners: Collection[int] | None) -> tuple[dict[str, str], tuple[Problem, ...]]:
    try:
        exposed = stat.S_IMODE(file.stat().st_mode) & 0o077
        variables, problems = parse_dotenv(read_text(file, None if exposed else owners))
    except FileNotFoundError:
        return {}, ()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return {}, (Problem(what=f"cannot be read: {why(error)}", file=str(file)),)
    except Unreadable as error:
        return {}, (replace(error.problem, file=str(file)),)
    if exposed:
        secret = Problem(what="it holds secrets, and others than its owner may read it", remedy=f"chmod 600 {file}")
        problems = (secret, *problems)
    return variables, tuple(replace(problem, file=str(file)) for problem in problems)


# -- deciding ---------------------------------------------------------------------------------------------------------


def _validate(filled: Filled, told: AbstractSet[KeyPath], *, demo: bool) -> tuple[Config, list[Problem]]:
    """The configuration, with defaults for each part that is broken, and what is broken beside what was reported."""
    plain: dict[str, Any] = {key: value for key, value in filled.value.items() if value is not None}
    model = plain.get("model", {})
    if demo and isinstance(model, dict):
        plain["model"] = {"provider": "demo", **model}
    try:
        return _typed(plain), []
    except ValidationError as error:
        plain = retyped(plain, wanting_no_text(error.errors(), plain) & filled.written.keys())
    try:
        return _typed(plain), []
    except ValidationError as error:
        problems = explain(error.errors(), plain, filled.written)
    sound = _without(plain, {_part(problem.path) for problem in problems})
    return _typed(sound), [problem for problem in problems if problem.path not in told]


def _typed(plain: Mapping[str, Any]) -> Config:
    """Validate as JSON: strict, but a list makes a tuple.

    Raises:
        ValidationError: it is no configuration.
    """
    return Config.model_validate_json(json.dumps(plain))


def _part(path: KeyPath) -> KeyPath:
    """The part of the file that stands or falls as one: a section, or one MCP server. Of an unknown one, that meant."""
    if path[:1] == ("mcp_servers",):
        return path[:2]
    if path and path[0] not in Config.model_fields:
        return (nearest_key(str(path[0]), ()) or path[0],)
    return path[:1]


def _without(plain: Mapping[str, Any], parts: set[KeyPath]) -> dict[str, Any]:
    """The plain configuration without some of its parts, and without unknown ones."""
    kept = {key: value for key, value in plain.items() if key in Config.model_fields and (key,) not in parts}
    servers = kept.get("mcp_servers", {})
    kept["mcp_servers"] = {name: entry for name, entry in servers.items() if ("mcp_servers", name) not in parts}
    return kept


def _clashes(config: Config) -> list[Problem]:
    """Sections that are sound, but not together."""
    api = config.api_server
    problems = []
    if api.port == config.admin.port != 0:
        what = f"api_server has port {config.admin.port} too"
        problems.append(Problem(what=what, path=("admin", "port"), remedy="give each listener a port of its own"))
    for index, name in enumerate(api.admins):
        if name not in api.key_variables:
            callers = ", ".join(api.key_variables)
            what = f"{HIDDEN if looks_like_key(name) else name} is no caller of this gateway"
            problems.append(Problem(what=what, path=("api_server", "admins", index), remedy=f"callers: {callers}"))
    return problems


def _wants_demo_key(config: Config, variables: Mapping[str, str]) -> bool:
    """Whether the only key that could open the API is the one a demo may make."""
    own = config.api_server.key_env == API_SERVER_KEY and not config.api_server.keys
    return own and not variables.get(API_SERVER_KEY)


def _placed(file: Path, document: ConfigDocument, problems: Iterable[Problem]) -> list[Problem]:
    """Problems with file and line, in the order of the file."""
    placed = [replace(p, file=str(file), line=p.line or document.line_of(p.path)) for p in problems]
    return sorted(placed, key=lambda problem: problem.line or 0)


# -- summary ----------------------------------------------------------------------------------------------------------


def _endpoint(settings: Settings, path: KeyPath, name: str, endpoint: ModelEndpoint) -> str:
    if endpoint.provider == "demo":
        return "demo (local, no key)"
    model, url = (settings.written.get((*path, of), getattr(endpoint, of)) for of in (name, "base_url"))
    key = f"key from {endpoint.key_env}" if endpoint.key_env else "no key"
    return f"{endpoint.provider} {model} at {url}, {key}"


def _server(server: McpServer) -> str:
    if not server.enabled:
        return "disabled"
    kind = f"stdio, {server.command}" if server.command is not None else "streamable HTTP"
    required = ", required" if server.required else ""
    return f"{kind}, one per {server.scope}{required}"


def _address(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port or '<any free port>'}"
