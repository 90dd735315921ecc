"""The diagram of a session's states is the code's own table.

``HERMES_ACTORS_WRITE_DIAGRAM=1 pytest tests/docs/test_docs_diagram.py`` draws it anew.
"""

from __future__ import annotations

import os

from fakes.pages import ROOT

from hermes_actors.core.sessions.marks import TABLE, Happening, Standing

PAGE = ROOT / "docs/explanation/restarts.md"
BEGIN, END = "<!-- diagram: begin -->\n", "<!-- diagram: end -->"


def drawn() -> str:
    """The table as a Mermaid state diagram: an arrow for all that leads from one state to another."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {Standing.CLEAR}"]
    for standing, row in TABLE.items():
        for after in Standing:
            ways = [happening.value for happening in Happening if row[happening] is after]
            if ways and after is not standing:
                lines.append(f"    {standing} --> {after}: {', '.join(ways)}")
    return "\n".join([*lines, "```", ""])


def test_the_diagram_of_the_states_is_the_table_that_the_code_works_by() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    shown, _, after = rest.partition(END)
    if os.environ.get("HERMES_ACTORS_WRITE_DIAGRAM"):
        PAGE.write_text(f"{before}{BEGIN}{drawn()}{END}{after}")
        return

    assert shown == drawn()
