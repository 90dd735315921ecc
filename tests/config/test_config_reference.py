"""The reference page and the types say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args, get_origin

import pytest
from fakes.config_desk import Desk
from pydantic.fields import FieldInfo

from hermes_actors.config.model import Config, Section

_PAGE = (Path(__file__).parents[2] / "docs/reference/configuration.md").read_text()
_NAMES = {"OPENAI_API_KEY", "LOCAL_KEY", "TOKEN", "ALICE_KEY", "BOB_KEY"}


def _sections(section: type[Section], title: str) -> Iterator[tuple[str, type[Section]]]:
    """The sections below one, with the titles that they have on the page."""
    for name, field in section.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        below = next((kind for kind in kinds if issubclass(kind, Section)), None)
        if below is not None:
            named = ".<name>" if get_origin(field.annotation) is Mapping else ""
            yield f"{title}{name}{named}", below
            yield from _sections(below, f"{title}{name}{named}.")


_SECTIONS = dict(_sections(Config, ""))


def _rows(title: str) -> dict[str, list[str]]:
    """The table under a heading: key to the cells behind it."""
    body = re.search(rf"^##+ `{re.escape(title)}`.*\n((?:(?!##).*\n)*)", _PAGE, re.MULTILINE)
    assert body is not None, f"no heading for {title}"
    rows = [re.split(r" *\| *", line)[1:-1] for line in body[1].splitlines() if line.startswith("| `")]
    return {re.sub(r"[`† ]", "", cells[0]): cells[1:] for cells in rows}


def _default(field: FieldInfo) -> str | None:
    """A default as the page writes it; None where it depends on other keys or needs words."""
    if field.is_required():
        return "required"
    if field.default_factory_takes_validated_data or isinstance(field.default, Section):
        return None
    value = field.get_default(call_default_factory=True)
    if value in (None, (), {}):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else f'{value:g}' if isinstance(value, float) else value}`"


@pytest.mark.parametrize("title", _SECTIONS)
def test_every_key_is_in_the_reference_with_its_default(title: str) -> None:
    fields, rows = _SECTIONS[title].model_fields, _rows(title)

    assert set(rows) == set(fields)
    assert [name for name, field in fields.items() if _default(field) not in (None, rows[name][1])] == []


def test_every_key_has_words_in_the_types() -> None:
    assert [
        (title, name) for title, s in _SECTIONS.items() for name, f in s.model_fields.items() if not f.description
    ] == []


def test_the_example_of_the_reference_loads_and_shows_every_section(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", _PAGE, re.DOTALL)

    settings = Desk.at(tmp_path / "home").accepted(example, {name: f"value-of-{name}" for name in _NAMES})

    assert settings.config.model_fields_set == set(Config.model_fields)
    assert set(settings.environment) == _NAMES
    assert list(settings.api_keys) == ["alice", "bob"]
