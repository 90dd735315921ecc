"""What another configuration means to a gateway that runs: what changes, and when. Pure.

Each key of the configuration says beside itself when a change of it applies (``Now``, ``NextTurn``, ``Restart``). A key
that only a restart changes is reported, and keeps its old value until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any, TypeAlias, get_args

from hermes_actors.config.model import OFF, Config, FallbackProvider, McpServer, PrincipalKey, Section, Settings, When
from hermes_actors.config.problems import shown
from hermes_actors.config.resolve import interpolated
from hermes_actors.config.variables import variables_in
from hermes_actors.operations.results import Change


def rules(section: type[Section], above: str = "") -> Iterator[tuple[str, When]]:
    """Each key below a section, dotted, and when a change of it applies, as the key itself says."""
    for name, field in section.model_fields.items():
        when = next((mark for mark in field.metadata if mark in get_args(When)), None)
        if when is not None:
            yield f"{above}{name}", when
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from rules(field.annotation, f"{above}{name}.")


# What applies at once comes first.
RULES: Mapping[str, When] = dict(sorted(rules(Config), key=lambda rule: get_args(When).index(rule[1])))

_Told: TypeAlias = Iterator[tuple[str, str]]  # key and words of each change


def changes(old: Settings, new: Settings) -> tuple[Change, ...]:
    """What differs between the configuration that runs and a new one, in the order of :data:`RULES`.

    A variable with another value is a change of the keys that name it.
    """
    return tuple(
        Change(key=place, when=when, what=what)
        for key, when in RULES.items()
        for place, what in _TELLERS.get(key, _value)(key, old, new)
    )


def reloaded(old: Settings, new: Settings) -> Settings:
    """The new configuration, but with the old value of each key that only a restart changes."""
    config = new.config
    for key, when in RULES.items():
        if when == "restart":
            section, name = key.split(".")
            kept = getattr(config, section).model_copy(update={name: _at(old, key)})
            config = config.model_copy(update={section: kept})
    written = {
        path: text
        for path, text in (*old.written.items(), *new.written.items())
        if (old if RULES.get(".".join(map(str, path))) == "restart" else new).written.get(path) == text
    }
    return replace(new, config=config, written=written)


# -- what is said of a key ---------------------------------------------------------------------------------------------


def _value(key: str, old: Settings, new: Settings) -> _Told:
    if _at(old, key) != _at(new, key):
        before, after = (_written(settings, *key.split(".")) for settings in (old, new))
        same = before == after and isinstance(after, str)  # other values of the variables that it names
        yield key, f"a new value in {', '.join(variables_in(after))}" if same else _arrow(before, after)


def _shards(key: str, old: Settings, new: Settings) -> _Told:
    for place, what in _value(key, old, new):
        yield place, f"{what} (a home keeps the number that it was made with)"


def _prompt(key: str, old: Settings, new: Settings) -> _Told:
    before, after = _at(old, key), _at(new, key)
    if before != after:  # its text may be long, and private
        yield key, "added" if before is None else "removed" if after is None else "changed"


def _compaction(key: str, old: Settings, new: Settings) -> _Told:
    before, after = (_at(settings, key) for settings in (old, new))
    if before != after:
        words = [OFF if of is None else f"at {of.at:g} with keep_turns {of.keep_turns}" for of in (before, after)]
        yield key, _arrow(*words)


def _variable(key: str, old: Settings, new: Settings) -> _Told:
    yield from _named(key, _at(old, key), _at(new, key), old, new)


def _callers(key: str, old: Settings, new: Settings) -> _Told:
    before: Mapping[str, PrincipalKey] = _at(old, key)
    after: Mapping[str, PrincipalKey] = _at(new, key)
    for principal in {**before, **after}:
        was, now = (keys[principal].key_env if principal in keys else None for keys in (before, after))
        yield from _named(f"{key}.{principal}", was, now, old, new)


def _admins(key: str, old: Settings, new: Settings) -> _Told:
    before, after = (
        ", ".join(_written(settings, *key.split("."), index) for index in range(len(_at(settings, key)))) or None
        for settings in (old, new)
    )
    if _at(old, key) != _at(new, key):
        yield key, _arrow(before, after)


def _named(key: str, before: str | None, after: str | None, old: Settings, new: Settings) -> _Told:
    """A key that names a variable: another name, or the same with another value."""
    if before != after:
        yield key, _arrow(before, after)
    elif told := _rotated((after,), old, new):
        yield key, told


def _fallbacks(key: str, old: Settings, new: Settings) -> _Told:
    before: tuple[FallbackProvider, ...] = _at(old, key)
    after: tuple[FallbackProvider, ...] = _at(new, key)
    was, now = (
        [_written(settings, key, index, "model") for index in range(len(_at(settings, key)))] for settings in (old, new)
    )
    if was != now and [entry.model for entry in before] != [entry.model for entry in after]:
        told = [_arrow(", ".join(was) or None, ", ".join(now) or None)]
    else:
        pairs = zip(now, before, after, strict=True)
        told = [f"{shown(model)}: {', '.join(_differing(b, a))}" for model, b, a in pairs if b != a]
    told.append(_rotated((entry.key_env for entry in after), old, new))
    if any(told):
        yield key, "; ".join(filter(None, told))


def _servers(key: str, old: Settings, new: Settings) -> _Told:
    before: Mapping[str, McpServer] = _at(old, key)
    after: Mapping[str, McpServer] = _at(new, key)
    for name in {**before, **after}:
        if name not in after:
            yield f"{key}.{name}", "removed"
        elif name not in before:
            yield f"{key}.{name}", "added"
        elif what := _server(before[name], after[name], old, new):
            yield f"{key}.{name}", what


def _server(before: McpServer, after: McpServer, old: Settings, new: Settings) -> str:
    """What becomes of a server; empty: it stays as it is."""
    keys = ", ".join(name for name in _differing(before, after) if name != "enabled")
    told = "; ".join(filter(None, (keys, _rotated(_variables(after), old, new))))
    if before.enabled != after.enabled:
        fate = "enabled" if after.enabled else "disabled"
    elif told:
        fate = "reconnects" if after.enabled else "stays disabled"
    else:
        return ""
    return f"{fate}: {told}" if told else fate


_TELLERS: Mapping[str, Callable[[str, Settings, Settings], _Told]] = {
    "model.key_env": _variable,
    "fallback_providers": _fallbacks,
    "mcp_servers": _servers,
    "agent.system_prompt": _prompt,
    "agent.compaction": _compaction,
    "api_server.key_env": _variable,
    "api_server.keys": _callers,
    "api_server.admins": _admins,
    "supervisor.shards": _shards,
}


# -- details -----------------------------------------------------------------------------------------------------------


def _at(settings: Settings, key: str) -> Any:
    return attrgetter(key)(settings.config)


def _written(settings: Settings, *path: str | int) -> Any:
    """What people are shown of a value: the text of the file where that names variables."""
    value: Any = settings.config
    for part in path:
        value = value[part] if isinstance(part, int) else getattr(value, part)
    return settings.written.get(path, value)


def _arrow(before: str | float | None, after: str | float | None) -> str:
    return f"{_word(before)} → {_word(after)}"


def _word(value: str | float | None) -> str:
    """A value as a file has it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return shown(value) if isinstance(value, str) else str(value).removesuffix(".0")


def _differing(before: Section, after: Section) -> list[str]:
    """The keys of two sections of a kind that have other values."""
    return [name for name in type(after).model_fields if getattr(before, name) != getattr(after, name)]


def _variables(server: McpServer) -> Iterator[str]:
    """The variables that a server names; those of a disabled one mean nothing, and may be misspelt."""
    if server.enabled:
        for _, text, _ in interpolated((), server):
            yield from variables_in(text)


def _rotated(names: Iterable[str | None], old: Settings, new: Settings) -> str:
    """Which of these variables have another value, in words; empty: none."""
    before, after = old.environment, new.environment
    named = dict.fromkeys(name for name in names if name is not None)
    rotated = [name for name in named if name in before and name in after and before[name] != after[name]]
    return f"a new value in {', '.join(rotated)}" if rotated else ""
