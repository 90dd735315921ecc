"""Where the gateway of a home is reached over HTTP, and with which key: `chat` needs no flags on its own machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hermes_actors.cli.command import BadConfiguration, Failed
from hermes_actors.cli.render import url
from hermes_actors.config.dotenv import parse_dotenv
from hermes_actors.config.load import load
from hermes_actors.config.model import API_SERVER_KEY, DEFAULT_PRINCIPAL
from hermes_actors.config.pasted import is_plain_name, looks_like_key
from hermes_actors.config.problems import LOOKS_LIKE_KEY, ConfigError
from hermes_actors.home import Home
from hermes_actors.operations.requests import ShowStatus
from hermes_actors.operators.client import ask


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key to show to the gateway."""

    value: str = field(repr=False)
    origin: str  # its variable and where that is set


def public_url(home: Home) -> str:
    """The address that the running supervisor of a home reports.

    Raises:
        NotRunning, NoAnswer, RequestFailed: see :func:`hermes_actors.operators.client.ask`.
        Failed: it does not listen yet.
    """
    http = ask(home, ShowStatus()).http
    if http is None:
        raise Failed("not_listening", "the supervisor runs, but does not listen for HTTP yet; try again")
    return url(http.host, http.port)


def api_key(home: Home, key_env: str | None, environ: Mapping[str, str]) -> ApiKey:
    """The bearer key: of the variable ``key_env``, else the one that the home's configuration names.

    Variables are looked for in ``environ``, then in the home's ``.env``.

    Raises:
        BadConfiguration: there is none, with what to do.
    """
    variables = {**_dotenv(home), **environ}
    if key_env is None:
        try:
            named = load(home, config_path=None, environ=environ, demo=False).config.api_server.key_variables
        except ConfigError:  # a key of the model that only the supervisor's environment has is no matter here
            key_env = API_SERVER_KEY
        else:
            key_env = named.get(DEFAULT_PRINCIPAL) or next(iter(named.values()))
    if not variables.get(key_env):
        named_one = key_env if is_plain_name(key_env) else "the variable that is named"
        hint = f" ({LOOKS_LIKE_KEY})" if looks_like_key(key_env) else ""
        why = f"no API key: {named_one}{hint} is neither in the environment nor in {home.env}"
        raise BadConfiguration("no_key", f"{why}; name its variable with --key-env")
    place = "the environment, which wins over .env" if key_env in environ else str(home.env)
    return ApiKey(value=variables[key_env], origin=f"{key_env} in {place}")


def _dotenv(home: Home) -> Mapping[str, str]:
    try:
        return parse_dotenv(home.env.read_text("utf-8"))[0]
    except (OSError, UnicodeError):
        return {}  # the message about the missing key names the file
