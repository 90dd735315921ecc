"""What may be written to a terminal: text of users and models can carry escape sequences that would command it."""

from __future__ import annotations

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """The text with control characters, except newline and tab, made visible."""
    return text.translate(_CONTROLS)
