"""Whether a text may be a secret that a person pasted where something else belongs. Pure.

A configuration problem quotes what stands in the file only where it is plainly no secret: it goes to terminals and to
the log. Forms of keys: what the providers hand out, and what ``openssl rand`` makes in hex and base64.
"""

from __future__ import annotations

import re

MAX_WORD_CHARS = 24  # a word longer than this is not repeated
MAX_NUMBER_CHARS = 10  # nor is a number; a longer one may be a code
MIN_KEY_CHARS = 8
MAX_RUN_CHARS = 32  # letters and digits without anything between them; no word is longer
EDGE_CHARS = 5  # from word to number, or to a capital: in chance text there is one for fewer characters than this

_HANDED_OUT = re.compile(
    r"[sprc]k-\S|(?:sk|pk|rk|gsk|csk|hf|r8|xai|nvapi|pplx|tvly|fw|gh[opusr]|github_pat|glpat|xox[a-z]|whsec|npm|pypi|dop_v1)"
    r"[-_](?=\S*\d|\S{16})\S{4}|(?:AKIA|ASIA|AIza|ya29|eyJ)[\w.-]{8}|(?i:bearer|basic)\s+\S"
)
_RUN = re.compile(r"[A-Za-z0-9]+")
_HEX = re.compile(r"[0-9a-f]{16,}|[0-9A-F]{16,}")
_EDGE = re.compile(r"(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])|(?<=[a-z])(?=[A-Z])")
_OPAQUE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[!-~]{16,}")
_NAME = re.compile(r"[A-Z][A-Z0-9]{,9}|[A-Z]{,32}|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
_WORD = re.compile(r"[A-Za-z0-9.+-]*(?: [A-Za-z0-9.%-]+)*|[A-Za-z_-]+")
_SECRET_KEY = re.compile(
    r"(?:^|[_-])(?:keys?|token|secrets?|password|passwd|pwd|bearer|auth|authorization|credentials?)$|api[_-]?key",
    re.IGNORECASE,
)


def looks_like_key(text: str) -> bool:
    """Whether a text has the form of a key: of a known provider, or letters and digits by chance."""
    if _HANDED_OUT.match(text) or any(_HEX.fullmatch(run) or len(run) > MAX_RUN_CHARS for run in _RUN.findall(text)):
        return True
    if len(text) >= MIN_KEY_CHARS and EDGE_CHARS * len(_EDGE.findall(text)) >= max(len(text), EDGE_CHARS * 3):
        return True
    return "_" not in text and "${" not in text and "://" not in text and _OPAQUE.fullmatch(text) is not None


def is_plain_name(name: str) -> bool:
    """Whether the name of a variable may be repeated: it looks like one, and not like a key."""
    return _NAME.fullmatch(name) is not None and not looks_like_key(name)


def is_plain_word(text: str) -> bool:
    """Whether a value may be repeated: a short word or two."""
    if len(text) > MAX_WORD_CHARS or _WORD.fullmatch(text) is None or looks_like_key(text):
        return False
    return not any(len(run) >= MIN_KEY_CHARS and re.search(r"\d", run) for run in _RUN.findall(text))


def is_plain_number(number: float) -> bool:
    """Whether a number may be repeated."""
    return len(f"{number}".lstrip("-")) <= MAX_NUMBER_CHARS


def wants_secret(key: str) -> bool:
    """Whether a key of a section asks for a secret by its name: ``api_key``, ``token``, ``apiKey``."""
    return _SECRET_KEY.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key)) is not None
