"""``hermes-ctl chat`` as people and scripts use it: a real process, a real HTTP server, a terminal where it matters."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fakes.chat_api import DONE, KEY, FakeApi, chunk, served
from fakes.commands import at_terminal, ctl, piped
from fakes.control_peer import Behaviour, FakeSupervisor, answering

from hermes_actors.cli import endpoint
from hermes_actors.cli.command import BadConfiguration, Failed
from hermes_actors.home import Home

Start = Callable[[Behaviour], FakeSupervisor]
Told = subprocess.CompletedProcess[str]


@pytest.fixture
def keyed(home: Home) -> Home:
    """A home whose ``.env`` has the API's key."""
    home.env.write_text(f"API_SERVER_KEY={KEY}\n")
    home.env.chmod(0o600)
    return home


@contextlib.asynccontextmanager
async def gateway(api: FakeApi, supervisor: Start) -> AsyncIterator[None]:
    """The API is served, and the supervisor tells where."""
    async with served(api) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        supervisor(answering({"status": {"http": {"host": host, "port": int(port)}}}))
        yield


async def said(home: Home, *arguments: str, stdin: str = "") -> Told:
    return await asyncio.to_thread(piped, ctl("chat", *arguments, "--home", str(home.root)), stdin=stdin)


async def test_one_message_prints_the_reply_alone_on_stdout_and_progress_beside_it(
    keyed: Home, supervisor: Start
) -> None:
    api = FakeApi()
    async with gateway(api, supervisor):
        told = await said(keyed, "-m", "What time is it?")

    assert (told.returncode, told.stdout) == (0, "It is \nnoon.\n")
    assert told.stderr.split() == ["…", "mcp__time__now", "✓", "mcp__time__now"]
    ((headers, body),) = api.asked
    assert (headers["Authorization"], headers["X-Hermes-Session-Id"]) == (f"Bearer {KEY}", "cli")
    assert body["messages"] == [{"role": "user", "content": "What time is it?"}]


async def test_with_json_the_reply_is_one_document(keyed: Home, supervisor: Start) -> None:
    async with gateway(FakeApi(), supervisor):
        told = await said(keyed, "work", "-m", "hi", "--json")

    assert json.loads(told.stdout) == {
        "session": "work",
        "text": "It is noon.",
        "tools": [{"name": "mcp__time__now", "status": "completed"}],
        "finish_reason": "stop",
    }
    assert told.stderr == ""


async def test_a_message_may_come_from_stdin(keyed: Home, supervisor: Start) -> None:
    api = FakeApi()
    async with gateway(api, supervisor):
        await said(keyed, "-m", "-", stdin="two\nlines\n")

    assert api.asked[0][1]["messages"][0]["content"] == "two\nlines\n"


async def test_what_is_no_utf_8_is_replaced_on_its_way(keyed: Home, supervisor: Start) -> None:
    api = FakeApi([chunk("\u2713"), DONE])
    async with gateway(api, supervisor):
        line = ctl("chat", "-m", "-", "--home", str(keyed.root))
        told = await asyncio.to_thread(piped, line, stdin="caf\udce9", PYTHONIOENCODING="latin-1", PYTHONUTF8="0")

    assert (told.returncode, told.stdout) == (0, "?\n")


async def test_piped_lines_are_messages_one_after_the_other(keyed: Home, supervisor: Start) -> None:
    api = FakeApi([chunk("yes"), DONE])
    async with gateway(api, supervisor):
        told = await said(keyed, stdin="one\n\ntwo\n")

    assert [body["messages"][0]["content"] for _, body in api.asked] == ["one", "two"]
    assert told.stdout == "yes\nyes\n"


@pytest.mark.parametrize("arguments", [("-m", "hi"), ()])
async def test_a_failed_turn_exits_1_and_sends_no_further_message(
    keyed: Home, supervisor: Start, arguments: tuple[str, ...]
) -> None:
    api = FakeApi(status=502, error={"error": {"message": "custom: no such model", "code": "provider_error"}})
    async with gateway(api, supervisor):
        told = await said(keyed, *arguments, stdin="one\ntwo\n")

    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == "Error: custom: no such model\n"
    assert len(api.asked) == 1


async def test_without_a_supervisor_there_is_nobody_to_talk_to(keyed: Home) -> None:
    assert (await said(keyed, "-m", "hi")).returncode == 4


async def test_a_key_that_is_nowhere_is_a_configuration_error_that_says_where_it_was_looked_for(
    home: Home, supervisor: Start
) -> None:
    async with gateway(FakeApi(), supervisor):
        told = await said(home, "-m", "hi", "--json", "--key-env", "MY_KEY")

    assert told.returncode == 78
    assert json.loads(told.stdout)["error"]["code"] == "no_key"
    assert f"MY_KEY is neither in the environment nor in {home.env}" in told.stderr


async def test_a_key_that_is_not_known_is_told_with_the_place_it_came_from(keyed: Home, supervisor: Start) -> None:
    api = FakeApi(status=401, error={"error": {"message": "Not known here.", "code": "invalid_api_key"}})
    line = ctl("chat", "-m", "hi", "--home", str(keyed.root))
    async with gateway(api, supervisor):
        kept = await asyncio.to_thread(piped, line)
        exported = await asyncio.to_thread(piped, line, API_SERVER_KEY="of-yesterday")

    assert kept.stderr == f"Error: Not known here. It is that of API_SERVER_KEY in {keyed.env}.\n"
    assert exported.stderr.endswith("API_SERVER_KEY in the environment, which wins over .env.\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-m", ""), "the message is empty"),
        (("-m", "-"), "the message is empty"),
        (("", "-m", "hi"), "1 to 256 printable characters"),
        (("x" * 257, "-m", "hi"), "1 to 256 printable characters"),
        (("a\nb", "-m", "hi"), "1 to 256 printable characters"),
    ],
)
async def test_what_cannot_be_sent_is_wrong_usage(
    keyed: Home, supervisor: Start, arguments: tuple[str, ...], words: str
) -> None:
    api = FakeApi()
    async with gateway(api, supervisor):
        told = await said(keyed, *arguments)

    assert told.returncode == 2
    assert words in told.stderr
    assert api.asked == []


# -- at a terminal ----------------------------------------------------------------------------------------------------


async def do(step: Callable[..., Any], *arguments: Any) -> Any:
    """A step at a terminal, while the API goes on being served."""
    return await asyncio.to_thread(step, *arguments)


async def test_a_person_reads_the_reply_as_it_comes_and_ends_with_ctrl_d(keyed: Home, supervisor: Start) -> None:
    async with gateway(FakeApi(), supervisor):
        with at_terminal(ctl("chat", "--home", str(keyed.root))) as terminal:
            await do(terminal.wait_for, "> ")
            terminal.type("What time is it?\n")
            await do(terminal.wait_for, "noon.\r\n")
            await do(terminal.wait_for, "> ")
            terminal.type("\x04")
            assert await do(terminal.end) == 0

    assert "\x1b[2m✓ mcp__time__now" in terminal.shown


async def test_ctrl_c_lets_go_of_a_reply_and_the_conversation_goes_on(keyed: Home, supervisor: Start) -> None:
    api = FakeApi([chunk("It is ")], hang=True)
    async with gateway(api, supervisor):
        with at_terminal(ctl("chat", "--home", str(keyed.root))) as terminal:
            await do(terminal.wait_for, "> ")
            terminal.type("What time is it?\n")
            await do(terminal.wait_for, "It is ")
            terminal.type("\x03")
            await do(terminal.wait_for, "the session finishes this turn by itself")
            await asyncio.wait_for(api.gone.wait(), 10)
            await do(terminal.wait_for, "> ")
            terminal.type("\x04")
            assert await do(terminal.end) == 0


async def test_a_person_sees_that_a_reply_is_awaited(keyed: Home, supervisor: Start) -> None:
    async with gateway(FakeApi([], hang=True), supervisor):
        with at_terminal(ctl("chat", "-m", "hi", "--home", str(keyed.root))) as terminal:
            await do(terminal.wait_for, "waiting for the reply")
            terminal.type("\x03")
            await do(terminal.wait_for, "Error: no longer waiting; the session finishes this turn by itself")
            assert await do(terminal.end) == 1


async def test_ctrl_c_at_the_prompt_drops_the_line(keyed: Home, supervisor: Start) -> None:
    api = FakeApi([chunk("yes"), DONE])
    async with gateway(api, supervisor):
        with at_terminal(ctl("chat", "--home", str(keyed.root))) as terminal:
            await do(terminal.wait_for, "> ")
            terminal.type("not this")
            await do(terminal.wait_for, "not this")
            await do(terminal.wait_asleep)
            terminal.type("\x03")
            await do(terminal.wait_for, "> ")
            terminal.type("this\n")
            await do(terminal.wait_for, "yes")
            await do(terminal.wait_for, "> ")
            terminal.type("\x04")
            assert await do(terminal.end) == 0

    assert [body["messages"][0]["content"] for _, body in api.asked] == ["this"]


async def test_a_failure_ends_no_conversation_at_a_terminal(keyed: Home, supervisor: Start) -> None:
    error = {"error": {"message": "the mailbox is full", "code": "mailbox_full"}}
    async with gateway(FakeApi(status=429, error=error), supervisor):
        with at_terminal(ctl("chat", "--home", str(keyed.root))) as terminal:
            await do(terminal.wait_for, "> ")
            terminal.type("hi\n")
            await do(terminal.wait_for, "the mailbox is full")
            await do(terminal.wait_for, "> ")
            terminal.type("\x04")
            assert await do(terminal.end) == 0


async def test_a_model_cannot_command_the_terminal(keyed: Home, supervisor: Start) -> None:
    evil = "\x1b]0;owned\x07"
    async with gateway(FakeApi([chunk(evil), DONE]), supervisor):
        told = await said(keyed, "-m", "hi")
        with at_terminal(ctl("chat", "-m", "hi", "--home", str(keyed.root))) as terminal:
            assert await do(terminal.end) == 0

    assert told.stdout == f"{evil}\n"  # a file gets what the model said
    assert evil not in terminal.shown
    assert "\\x1b]0;owned\\x07" in terminal.shown


# -- where and with which key -----------------------------------------------------------------------------------------


def test_an_address_that_means_every_interface_is_reached_on_this_machine(home: Home, supervisor: Start) -> None:
    replies = {"status": {"http": {"host": "0.0.0.0", "port": 1}}}
    supervisor(answering(replies))

    assert endpoint.public_url(home) == "http://127.0.0.1:1"
    replies["status"]["http"] = {"host": "::", "port": 2}
    assert endpoint.public_url(home) == "http://[::1]:2"


def test_a_supervisor_that_does_not_listen_yet_is_a_clear_failure(home: Home, supervisor: Start) -> None:
    supervisor(answering({"status": {"http": None}}))

    with pytest.raises(Failed, match="does not listen for HTTP yet"):
        endpoint.public_url(home)


def test_the_configuration_says_which_variable_has_the_key(home: Home) -> None:
    home.config.write_text("model: {provider: demo}\napi_server: {keys: {alice: {key_env: ALICE_KEY}}}\n")

    assert endpoint.api_key(home, None, {"ALICE_KEY": KEY}).value == KEY


def test_a_key_of_the_model_that_only_the_supervisor_has_does_not_matter(home: Home) -> None:
    assert endpoint.api_key(home, None, {"API_SERVER_KEY": KEY}).value == KEY


def test_the_environment_wins_over_the_homes_file(keyed: Home) -> None:
    assert endpoint.api_key(keyed, "API_SERVER_KEY", {}).value == KEY
    assert endpoint.api_key(keyed, "API_SERVER_KEY", {"API_SERVER_KEY": "another-key"}).value == "another-key"


def test_a_home_without_a_key_has_none(home: Home) -> None:
    with pytest.raises(BadConfiguration, match="no API key"):
        endpoint.api_key(home, None, {})


@pytest.mark.parametrize(
    "key", ["sk-hush-hush", "a3f09c1d7e5b428896f1c0d2e3b4a5968778695a4b3c2d1e", "abcdefNEWKEY0123456789"]
)
def test_a_key_given_in_place_of_its_variables_name_is_not_repeated(home: Home, key: str) -> None:
    with pytest.raises(BadConfiguration, match="looks like a key") as refused:
        endpoint.api_key(home, key, {})

    assert key not in str(refused.value)
