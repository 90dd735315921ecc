"""Cases that the gate leaves out: their kind is in it once, and real processes make each of them cost seconds."""

from __future__ import annotations

from typing import Any

import pytest


def long(*cases: Any) -> list[Any]:
    """Cases of a parametrized test for the long suite alone: ``bin/test -m long``."""
    return [pytest.param(case, marks=pytest.mark.long) for case in cases]
