"""What the references of a JSON schema mean, as far as they lead to a place inside it: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

MAX_PLACES = 20_000  # of one schema that are looked at for names
KEYWORDS: Final = ("$ref", "$dynamicRef", "$recursiveRef")
NAMES: Final = ("$id", "id", "$anchor", "$dynamicAnchor")


class References:
    """Finds what a schema refers to inside itself.

    Args:
        root: the whole schema.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._base = next((root[key] for key in ("$id", "id") if isinstance(root.get(key), str)), "").rstrip("#")
        self._named: dict[str, Any] | None = None  # by "#anchor" and by id; found when one is asked for

    def target(self, reference: object) -> tuple[str, Any] | None:
        """Where a reference leads, as one text for each place, and what is there: an object or a boolean.

        None where it leads out of the schema, to nothing, to what is no schema, or to the whole schema, which contains
        the reference.
        """
        if not isinstance(reference, str):
            return None
        if self._base and reference.startswith(self._base + "#"):
            reference = reference[len(self._base) :]
        found = self._at(reference) if reference.startswith("#/") else self._names().get(reference)
        if isinstance(found, bool) or (isinstance(found, Mapping) and found is not self._root):
            return reference, found
        return None

    def _at(self, pointer: str) -> Any:
        """What a JSON pointer (RFC 6901) leads to, or None."""
        place: Any = self._root
        for part in unquote(pointer[2:]).split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(place, Mapping):
                place = place.get(name)
            elif isinstance(place, list) and name.isdecimal() and len(name) < 9 and int(name) < len(place):
                place = place[int(name)]
            else:
                return None
        return place

    def _names(self) -> Mapping[str, Any]:
        if self._named is None:
            self._named = {}
            for place in _objects(self._root):
                for key in NAMES:
                    if isinstance(name := place.get(key), str):
                        self._named.setdefault(f"#{name}" if "nchor" in key else name, place)
        return self._named


def _objects(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The objects of a schema, the nearest to its root first."""
    waiting: list[Any] = [root]
    for place in waiting:
        if isinstance(place, Mapping):
            yield place
            waiting += place.values()
        elif isinstance(place, list):
            waiting += place
        if len(waiting) > MAX_PLACES:
            return
