"""YAML text to plain data that knows its lines. Pure; a broken text is a list of problems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from hermes_actors.config.problems import KeyPath, Problem

MAX_DEPTH = 32
MAX_NODES = 100_000  # aliases count each time: a small file can stand for a huge one
MAX_INTEGER = 2**63 - 1  # what travels in msgpack

_QUOTED = re.compile(r"""(['"])(?!<)[^'"]{2,}\1""")  # of the file: an alias's or a tag's name, which may be a secret
_TAG = "tag:yaml.org,2002:"
_convert = yaml.constructor.SafeConstructor()
_CONVERTERS = {
    "null": _convert.construct_yaml_null,
    "bool": _convert.construct_yaml_bool,
    "int": _convert.construct_yaml_int,
    "float": _convert.construct_yaml_float,
}
_AS_WRITTEN = {"str", "timestamp", "merge", "value"}  # a date, << and = are text: 2026-01-02 may be a model's name
_TAGS = {yaml.MappingNode: {"map"}, yaml.SequenceNode: {"seq"}, yaml.ScalarNode: {*_CONVERTERS, *_AS_WRITTEN}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigDocument:
    """A parsed text."""

    value: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[KeyPath, int] = field(default_factory=dict)  # of each key and list item, from 1
    problems: tuple[Problem, ...] = ()
    absent: bool = False  # there is no file, and none has to be

    def line_of(self, path: KeyPath) -> int | None:
        """The line of a key, or of the nearest key above it that stands in the text."""
        return next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)


class _TooLarge(Exception):
    """The data is larger or deeper than any configuration."""


def parse(text: str) -> ConfigDocument:
    """The mapping that a YAML text holds; an empty text is an empty one.

    Scalars are ``None``, ``bool``, ``int``, ``float`` or ``str``. Of a duplicate key the first value stands.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)  # composes nodes only: nothing is constructed
        if root is None:
            return ConfigDocument()
        reader = _Reader()
        value = reader.read(root, ())
    except (RecursionError, _TooLarge):
        return _broken("nested too deeply, or too large with its aliases written out", None)
    except yaml.MarkedYAMLError as error:
        return _syntax_error(error)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _broken("not YAML: a control character stands in it", line)
    except (yaml.YAMLError, ValueError, OverflowError):  # PyYAML lets those of int() and chr() out
        return _broken("not YAML: a number or an escape is out of range", None)
    problems = tuple(reader.problems)
    if isinstance(value, dict):
        return ConfigDocument(value=value, lines=reader.lines, problems=problems)
    if value is None:
        return ConfigDocument(problems=problems)
    return _broken("expected sections like 'model:' at the top, each with its keys", 1)


def _broken(what: str, line: int | None) -> ConfigDocument:
    return ConfigDocument(problems=(Problem(what=what, line=line),))


def _syntax_error(error: yaml.MarkedYAMLError) -> ConfigDocument:
    """What PyYAML says, and where what it was reading began: an open quote is noticed only at the end of the text."""
    mark = error.problem_mark or error.context_mark
    words = error.problem or "unreadable"
    if error.context:
        began = f" that begins on line {error.context_mark.line + 1}" if error.context_mark else ""
        words = f"{error.context}{began}, {words}"
    return _broken(f"not YAML: {_QUOTED.sub('…', words)}", mark.line + 1 if mark else None)


class _Reader:
    """One walk over the nodes of a text."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._nodes = 0

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        """The plain data of a node.

        Raises:
            _TooLarge: too deep, or too many nodes; also an alias inside what it stands for.
        """
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise _TooLarge
        if node.tag.removeprefix(_TAG) not in _TAGS[type(node)]:
            remedy = "quote text that begins with an exclamation mark"
            self._problem("YAML tags are not supported", path, node.start_mark.line + 1, remedy)
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, path)
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._problem("a key is a plain word", path, line)
                continue
            name = self._text(key, path)
            if key.tag == _TAG + "merge":
                self._problem("merge keys (<<) are not supported", path, line, "write the entries out")
            elif name in found:
                first = self.lines[*path, name]
                self._problem(f"duplicate key, first on line {first}", (*path, name), line, "keep one of them")
            else:
                self.lines[*path, name] = line
                found[name] = self.read(value, (*path, name))
        return found

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self.lines[*path, index] = item.start_mark.line + 1
            items.append(self.read(item, (*path, index)))
        return items

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind in _AS_WRITTEN:
            return self._text(node, path)
        line = node.start_mark.line + 1
        try:
            value = _CONVERTERS[kind](node)
        except (ValueError, LookupError, ArithmeticError):
            self._problem(f"not a valid {kind}", path, line)
            return None
        if type(value) is int and abs(value) > MAX_INTEGER:
            self._problem("this number is out of range", path, line)
            return None
        return value

    def _text(self, node: yaml.ScalarNode, path: KeyPath) -> str:
        text: str = node.value
        if any("\ud800" <= c <= "\udfff" for c in text):
            self._problem("half of a surrogate pair is no character", path, node.start_mark.line + 1)
            return text.encode("utf-8", "replace").decode()
        return text

    def _problem(self, what: str, path: KeyPath, line: int, remedy: str = "") -> None:
        self.problems.append(Problem(what=what, path=path, line=line, remedy=remedy))
