"""The table of clients that the long suite meets: programs, pages and versions."""

from __future__ import annotations

import pytest
from real_clients.clients import CLIENTS, version
from real_clients.pages import programs
from real_clients.situations import ONCE, WORKS, can


@pytest.mark.parametrize(
    ("package", "told"),
    [
        ("openai==3.57.0", "openai 3.57.0"),
        ("smolagents[openai]==1.26.0", "smolagents 1.26.0"),
        ("openai@7.59.0", "openai 7.59.0"),
        ("@ai-sdk/openai@4.0.118", "@ai-sdk/openai 4.0.118"),
    ],
)
def test_a_pinned_package_is_told_as_its_name_and_version(package: str, told: str) -> None:
    assert version(package) == told


def test_each_page_of_a_client_has_programs_and_answers_to_compare() -> None:
    paged = [client for client in CLIENTS if client.page]

    assert [client.name for client in paged if not (programs(client, ["an interpreter"]) and client.says)] == []


def test_each_client_meets_all_that_can_go_wrong_and_something_that_works() -> None:
    for client in CLIENTS:
        assert all(can(client, situation) for situation in ONCE), client.name
        assert any(can(client, situation) for situation in WORKS), client.name


def test_no_situations_messages_are_taken_for_those_of_another() -> None:
    tags = [situation.tag for situation in (*WORKS, *ONCE)]

    assert [(one, other) for one in tags for other in tags if one in other and one is not other] == []
