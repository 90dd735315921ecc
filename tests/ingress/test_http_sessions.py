from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import pytest
from fakes.gateway import FakeGateway
from fakes.served_ingress import KEYS, Reply, Served, read_to_end, serving

from hermes_actors.wire.refusals import RefusalCode
from workers.gateway import TranscriptPage
from workers.turns import Refusal

ODD = "a/b ?#%ü.."


def with_sessions() -> FakeGateway:
    gateway = FakeGateway()
    keys = [f"api:alice:{name}" for name in ("1", "2", "3", ODD, "..")] + ["api:bob:1", "api:bob:only"]
    gateway.sessions = {
        key: {
            "key": key,
            "session_id": f"s_{key}",
            "state": "idle",
            "turns": {},
            "title": None,
            "running": None,
            "summary": None,
        }
        for key in keys
    }
    gateway.rows = [{"seq": n, "turn_id": "turn_1", "message": {"role": "user", "content": str(n)}} for n in (1, 2, 3)]
    return gateway


async def test_sessions_are_listed_page_by_page() -> None:
    async with serving(with_sessions()) as served:
        first = (await served.ask("GET", "/api/sessions?limit=3")).data
        second = (await served.ask("GET", f"/api/sessions?limit=3&after={first['next']}")).data

    assert [session["id"] for session in first["data"]] == ["1", "2", "3"]
    assert (first["object"], first["has_more"]) == ("list", True)
    assert [session["id"] for session in second["data"]] == [ODD, ".."]
    assert (second["has_more"], second["next"]) == (False, None)


async def test_a_session_is_shown() -> None:
    async with serving(with_sessions()) as served:
        shown = (await served.ask("GET", "/api/sessions/1")).data

    assert shown == {
        "id": "1",
        "object": "session",
        "key": "api:alice:1",
        "session_id": "s_api:alice:1",
        "state": "idle",
        "turns": {},
        "title": None,
        "running": None,
        "summary": None,
    }


@pytest.mark.parametrize("session_id", [ODD, "..", "{id}"])
async def test_an_id_may_hold_what_urls_treat_specially(session_id: str) -> None:
    gateway = with_sessions()
    gateway.sessions["api:alice:{id}"] = {"key": "api:alice:{id}"}
    async with serving(gateway) as served:
        quoted = quote(session_id, safe="")
        line = f"GET /api/sessions/{quoted} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        reader, writer = await served.raw()  # other clients tidy `..` away
        writer.write(f"{line}Authorization: Bearer {KEYS['alice']}\r\n\r\n".encode())
        answer = await read_to_end(reader)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert f'"key":"api:alice:{session_id}"'.encode() in answer


async def test_a_transcript_is_told_page_by_page() -> None:
    async with serving(with_sessions()) as served:
        first = (await served.ask("GET", "/api/sessions/1/messages?limit=2")).data
        second = (await served.ask("GET", f"/api/sessions/1/messages?after={first['next']}")).data

    assert [row["message"]["content"] for row in first["data"]] == ["1", "2"]
    assert [row["seq"] for row in second["data"]] == [3]
    assert second["next"] is None


async def test_a_session_is_deleted_once() -> None:
    async with serving(with_sessions()) as served:
        first = await served.ask("DELETE", "/api/sessions/1")
        second = await served.ask("DELETE", "/api/sessions/1")

    assert first.data == {"id": "1", "object": "session.deleted", "deleted": True}
    assert (second.status, second.error["code"]) == (404, "session_not_found")


@pytest.mark.parametrize(("method", "below"), [("GET", ""), ("GET", "/messages"), ("DELETE", "")])
async def test_a_session_of_another_principal_does_not_exist(method: str, below: str) -> None:
    async with serving(with_sessions()) as served:
        reply = await served.ask(method, f"/api/sessions/only{below}")

    assert (reply.status, reply.error["code"]) == (404, "session_not_found")
    assert "api:bob:only" in served.gateway.sessions


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=x",
        "limit=1e3",
        f"limit={'9' * 30}",
        f"after={'x' * 2000}",
        "after=%ff",
    ],
)
async def test_a_bad_page_is_refused(query: str) -> None:
    async with serving(with_sessions()) as served:
        reply = await served.ask("GET", f"/api/sessions?{query}")

    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 30])
async def test_a_bad_place_in_a_transcript_is_refused(after: str) -> None:
    async with serving(with_sessions()) as served:
        reply = await served.ask("GET", f"/api/sessions/1/messages?after={after}")

    assert (reply.status, reply.error["param"]) == (400, "after")


@pytest.mark.parametrize(
    "path", ["/api/sessions/", "/api/sessions/%00", "/api/sessions/%ff", f"/api/sessions/{'x' * 257}"]
)
async def test_an_id_that_no_session_can_have_is_not_found(path: str) -> None:
    async with serving(with_sessions()) as served:
        reply = await served.ask("GET", path)

    assert (reply.status, reply.error["code"]) == (404, "session_not_found")


async def test_a_supervisor_that_does_not_answer_is_503() -> None:
    gateway = with_sessions()
    gateway.refusal = Refusal(RefusalCode.SHARD_UNAVAILABLE, "the supervisor does not answer")
    async with serving(gateway) as served:
        reply = await served.ask("GET", "/api/sessions")

    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")


# -- made, copied, exported -------------------------------------------------------------------------------------------


async def post(served: Served, path: str, body: Any = None, **headers: str) -> Reply:
    raw = None if body is None else orjson.dumps(body)
    return await served.ask("POST", path, raw, **({"Content_Type": "application/json"} | headers))


async def test_a_session_is_made_with_the_name_that_it_is_given_or_one_of_ours() -> None:
    async with serving(with_sessions()) as served:
        named = await post(served, "/api/sessions", {"id": "mine"})
        unnamed = await post(served, "/api/sessions")
        again = await post(served, "/api/sessions", {"id": "mine"})

    assert (named.status, named.data["id"], named.data["key"]) == (201, "mine", "api:alice:mine")
    assert unnamed.status == 201
    assert unnamed.data["id"]
    assert (again.status, again.error["code"]) == (409, "session_exists")


async def test_a_session_is_copied_up_to_a_turn() -> None:
    async with serving(with_sessions()) as served:
        whole = await post(served, "/api/sessions/1/fork")
        part = await post(served, "/api/sessions/1/fork", {"id": "branch", "turn_id": "turn_1"})

    assert (whole.status, part.status, part.data["id"]) == (201, 201, "branch")
    assert [(source, through) for source, _, through in served.gateway.forks] == [
        ("api:alice:1", None),
        ("api:alice:1", "turn_1"),
    ]
    assert part.data["key"] == "api:alice:branch"


@pytest.mark.parametrize("path", ["/api/sessions", "/api/sessions/1/fork"])
@pytest.mark.parametrize(
    ("body", "param"),
    [({"id": ""}, "id"), ({"id": 7}, "id"), ({"id": "a" * 257}, "id"), ({"id": "a\n"}, "id"), ([], None)],
)
async def test_a_session_that_cannot_be_called_so_is_refused(path: str, body: Any, param: str | None) -> None:
    async with serving(with_sessions()) as served:
        reply = await post(served, path, body)

    assert (reply.status, reply.error["param"]) == (400, param)
    assert "api:alice:" not in served.gateway.sessions


async def test_a_turn_that_is_none_is_refused() -> None:
    async with serving(with_sessions()) as served:
        reply = await post(served, "/api/sessions/1/fork", {"turn_id": 7})

    assert (reply.status, reply.error["param"]) == (400, "turn_id")


async def test_a_session_of_another_principal_is_neither_copied_nor_exported() -> None:
    async with serving(with_sessions()) as served:
        copied = await post(served, "/api/sessions/only/fork")
        exported = await served.ask("GET", "/api/sessions/only/export")

    assert (copied.status, exported.status) == (404, 404)


async def test_a_transcript_is_exported_a_message_a_line() -> None:
    gateway = with_sessions()
    gateway.rows = [{"seq": n, "turn_id": "t", "message": {"role": "user", "content": "a\nb"}} for n in range(1, 451)]
    async with serving(gateway) as served:
        reply = await served.ask("GET", "/api/sessions/1/export")

    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/jsonl")
    assert [orjson.loads(line) for line in reply.body.splitlines()] == gateway.rows


async def test_an_export_that_breaks_off_does_not_look_whole() -> None:
    gateway = with_sessions()
    gateway.rows = [{"seq": n, "turn_id": "t", "message": {}} for n in range(1, 451)]
    pages = gateway.session_messages

    async def breaking(key: str, after: int, limit: int) -> TranscriptPage:
        if after:
            raise Refusal(RefusalCode.SHARD_UNAVAILABLE, "gone")
        return await pages(key, after, limit)

    gateway.session_messages = breaking  # type: ignore[method-assign]  # for this test
    async with serving(gateway) as served:
        with pytest.raises(aiohttp.ClientError):
            await served.ask("GET", "/api/sessions/1/export")


# -- titles and the search --------------------------------------------------------------------------------------------


async def test_a_session_gets_a_title_and_loses_it() -> None:
    async with serving(with_sessions()) as served:
        made = await post(served, "/api/sessions", {"id": "mine", "title": "Plans"})
        renamed = await patch(served, "/api/sessions/mine", {"title": "Plans for May"})
        listed = await served.ask("GET", "/api/sessions")
        cleared = await patch(served, "/api/sessions/mine", {"title": None})

    assert (made.status, made.data["title"]) == (201, "Plans")
    assert (renamed.status, renamed.data["id"], renamed.data["title"]) == (200, "mine", "Plans for May")
    assert listed.data["data"][-1]["title"] == "Plans for May"
    assert cleared.data["title"] is None


async def patch(served: Served, path: str, body: Any) -> Reply:
    return await served.ask("PATCH", path, orjson.dumps(body), Content_Type="application/json")


@pytest.mark.parametrize("body", [{}, {"title": ""}, {"title": 1}, {"title": "a\nb"}, {"title": "x" * 257}])
async def test_a_title_that_cannot_be_one_is_refused(body: dict[str, Any]) -> None:
    async with serving(with_sessions()) as served:
        reply = await patch(served, "/api/sessions/1", body)

    assert (reply.status, reply.error["param"]) == (400, "title")


async def test_a_session_of_another_principal_gets_no_title() -> None:
    async with serving(with_sessions()) as served:
        reply = await patch(served, "/api/sessions/only", {"title": "Mine"})

    assert (reply.status, reply.error["code"]) == (404, "session_not_found")
    assert served.gateway.sessions["api:bob:only"]["title"] is None


@pytest.mark.parametrize("all_of_it", [True, False])
async def test_a_search_finds_sessions_of_its_caller_and_says_whether_it_saw_all(all_of_it: bool) -> None:
    gateway = with_sessions()
    gateway.searches_all = all_of_it
    for key in ("api:alice:2", "api:bob:only"):
        gateway.sessions[key]["title"] = "bénéfice"
    async with serving(gateway) as served:
        reply = await served.ask("GET", f"/api/sessions?q={quote('béné')}")

    assert [session["id"] for session in reply.data["data"]] == ["2"]
    assert (reply.data["incomplete"], reply.data["next"]) == (not all_of_it, None)
    assert gateway.searches == ["béné"]


@pytest.mark.parametrize("text", ["%20", "x" * 257])
async def test_a_search_for_nothing_or_for_too_much_is_refused(text: str) -> None:
    async with serving(with_sessions()) as served:
        reply = await served.ask("GET", f"/api/sessions?q={text}")

    assert (reply.status, reply.error["param"]) == (400, "q")
    assert served.gateway.searches == []
