"""The page on operations says what their types say.

``HERMES_ACTORS_WRITE_TABLE=1 pytest tests/docs/test_docs_operations.py`` draws it.
"""

from __future__ import annotations

import os

from fakes.operations_page import PAGE, drawn


def test_the_page_on_operations_is_drawn_from_the_types() -> None:
    page = PAGE.read_text()
    if os.environ.get("HERMES_ACTORS_WRITE_TABLE"):
        PAGE.write_text(drawn(page))

    assert PAGE.read_text() == drawn(page)
