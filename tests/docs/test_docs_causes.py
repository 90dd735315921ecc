"""The page on failures by cause says what the data says.

``HERMES_ACTORS_WRITE_TABLE=1 pytest tests/docs/test_docs_causes.py`` draws it.
"""

from __future__ import annotations

import os

from fakes.causes_page import PAGE, drawn


def test_the_page_on_failures_by_cause_is_drawn_from_the_data() -> None:
    page = PAGE.read_text()
    if os.environ.get("HERMES_ACTORS_WRITE_TABLE"):
        PAGE.write_text(drawn(page))

    assert PAGE.read_text() == drawn(page)
