"""Titles of sessions and the search among them, where their shards are at several workers."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from fakes.cluster import SHARDS, Cluster, ended

from hermes_actors.wire.sharding import shard_of
from workers.routing import finding
from workers.routing.router import Router
from workers.sessions import finding as in_a_shard
from workers.sessions.finding import says
from workers.turns import Refusal

ME = "default"


class Listed:
    """The registry's list: the sessions in the order in which they began."""

    def __init__(self, cluster: Cluster) -> None:
        self._names = cluster.registry.sessions
        self.pages = 0

    async def page(self, principal: str, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        self.pages += 1
        first = int(after or 0)
        rest = first + limit
        mine = [{"key": key, "session_id": transcript} for key, transcript in self._names.items()]
        return mine[first:rest], str(rest) if rest < len(mine) else None


@pytest.fixture
def router(cluster: Cluster) -> Router:
    """The router of the first worker, on a list of all sessions."""
    node = cluster.nodes[0]
    return Router(node.table, node.local, Listed(cluster), node.router._hello, owner_wait_s=1.0)


async def say(cluster: Cluster, router: Router, key: str, text: str) -> None:
    await ended(await router.submit(cluster.message(text, key, turn_id=router.new_turn_id(key)), stream=False))


def keys(cluster: Cluster, count: int = 4) -> list[str]:
    """Of sessions at either worker, in turn."""
    return [cluster.key_on(number % 2, f"api:default:s{number}-") for number in range(count)]


def found(page: Any) -> list[str]:
    return [session["key"] for session in page["sessions"]]


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_session_has_the_title_that_it_was_given_last(cluster: Cluster, router: Router, owner: int) -> None:
    key, other = cluster.key_on(owner), cluster.key_on(owner, "api:default:other")
    made = await router.create_session(key, ME, "One")
    await router.create_session(other, ME, None)
    again = await router.create_session(key, ME, None)
    renamed = await router.rename_session(key, "Two")

    sessions, cursor = await router.list_sessions(ME, None, 10)

    assert [view["title"] for view in (made, again, renamed)] == ["One", "One", "Two"]
    assert {session["key"]: session["title"] for session in sessions} == {key: "Two", other: None}
    assert cursor is None
    assert (await router.rename_session(key, None))["title"] is None


async def test_a_title_goes_with_its_session(cluster: Cluster, router: Router) -> None:
    key = cluster.key_on(1)
    await router.create_session(key, ME, "One")
    await router.delete_session(key)

    with pytest.raises(Refusal) as refused:
        await router.rename_session(key, "Two")

    assert refused.value.code == "session_not_found"
    assert (await router.create_session(key, ME, None))["title"] is None


async def test_a_list_is_shown_without_the_titles_of_an_owner_that_is_down(cluster: Cluster, router: Router) -> None:
    here, there = cluster.key_on(0), cluster.key_on(1)
    for key in (here, there):
        await router.create_session(key, ME, "One")
    await cluster.kill(1)

    sessions, _ = await router.list_sessions(ME, None, 10)

    assert {session["key"]: session["title"] for session in sessions} == {here: "One", there: None}


async def test_a_search_finds_titles_and_what_was_said_at_all_workers(cluster: Cluster, router: Router) -> None:
    titled, asked, other, silent = keys(cluster)
    await router.create_session(titled, ME, "Straße")
    await say(cluster, router, asked, 'about the STRASSE, "quoted"')
    await say(cluster, router, other, "about the user")
    await router.create_session(silent, ME, None)

    assert found(await router.search_sessions(ME, "strasse", None, 10)) == [titled, asked]
    assert found(await router.search_sessions(ME, 'E, "Q', None, 10)) == [asked]
    assert found(await router.search_sessions(ME, "role", None, 10)) == []
    page = await router.search_sessions(ME, "re: about", None, 10)
    assert (found(page), page["next"], page["whole"]) == ([asked, other], None, True)
    assert page["sessions"][0]["title"] is None


async def test_a_search_goes_on_behind_its_last_page(cluster: Cluster, router: Router) -> None:
    wanted = keys(cluster, 7)
    for number, key in enumerate(wanted):
        await router.create_session(key, ME, "even" if number % 2 == 0 else "odd")

    first = await router.search_sessions(ME, "even", None, 3)
    rest = await router.search_sessions(ME, "even", first["next"], 3)

    assert found(first) + found(rest) == wanted[::2]
    assert (len(found(first)), rest["next"]) == (3, None)


async def test_a_search_ends_after_so_many_sessions(
    cluster: Cluster, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "MAX_SEARCHED", 2)
    wanted = keys(cluster, 5)
    for key in wanted:
        await router.create_session(key, ME, None)
    await router.rename_session(wanted[-1], "Here")

    first = await router.search_sessions(ME, "here", None, 10)
    second = await router.search_sessions(ME, "here", first["next"], 10)
    third = await router.search_sessions(ME, "here", second["next"], 10)

    assert [found(page) for page in (first, second, third)] == [[], [], [wanted[-1]]]
    assert (first["next"], second["next"], third["next"]) == ("2", "4", None)


async def test_a_search_ends_in_time(cluster: Cluster, router: Router) -> None:
    wanted = keys(cluster, 3)
    for key in wanted:
        await router.create_session(key, ME, "Here")
    store = cluster.stores[shard_of(wanted[0], SHARDS)]
    gate = store.gates["titles"] = asyncio.Event()
    asyncio.get_running_loop().call_later(finding.SEARCH_S, gate.set)

    page = await router.search_sessions(ME, "not there", None, 1)

    assert (found(page), page["next"]) == ([], "1")


async def test_a_search_says_that_it_did_not_see_all(
    cluster: Cluster, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = cluster.key_on(1)
    for number in range(in_a_shard.ROWS_AT_ONCE):
        await say(cluster, router, key, f"number {number:03}.")
    whole = await router.search_sessions(ME, "number 019.", None, 10)
    monkeypatch.setattr(in_a_shard, "MAX_SEARCHED_BYTES", 100)
    part = await router.search_sessions(ME, "number 019.", None, 10)
    beginning = await router.search_sessions(ME, "number 001.", None, 10)
    await cluster.kill(1)
    down = await router.search_sessions(ME, "number 001.", None, 10)

    assert [found(page) for page in (whole, part, beginning, down)] == [[key], [], [key], []]
    assert [page["whole"] for page in (whole, part, beginning, down)] == [True, False, True, False]


@pytest.mark.parametrize(
    ("message", "it_says_so"),
    [
        ({"role": "user", "content": "The Needle"}, True),
        ({"role": "user", "content": [{"type": "text", "text": "a needle"}]}, True),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "needle"}]}, False),
        ({"role": "tool", "content": "needle", "tool_call_id": "c"}, False),
        ({"role": "system", "content": "needle"}, False),
    ],
)
def test_people_and_the_model_say_what_is_searched(message: dict[str, Any], it_says_so: bool) -> None:
    assert says(orjson.dumps(message), "needle") is it_says_so
