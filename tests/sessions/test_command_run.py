"""Commands in a message: answered without a model."""

from __future__ import annotations

import asyncio

import pytest
from fakes.model_failures import failed
from fakes.sessions import BOUND_S, Bench, end_of, text_reply, tool_reply, until

from hermes_actors.wire.records import Interrupted, Suspended
from workers.sessions.marks import Marks
from workers.tools.toolbox import Aborted
from workers.turns import Refusal

KEY = "api:default:a"


def contents(messages: list[dict[str, object]]) -> list[object]:
    return [message["content"] for message in messages]


async def test_help_names_every_command_and_asks_no_model(bench: Bench) -> None:
    ended = await bench.talk("/help")

    for word in ("/status", "/stop", "/model", "/retry", "/new", "/reset"):
        assert word in ended.text
    assert bench.model.requests == []
    assert bench.store.rows == {}


async def test_a_path_goes_to_the_model(bench: Bench) -> None:
    assert (await bench.talk("/usr/bin/env")).text == "re: /usr/bin/env"


async def test_stop_ends_the_running_turn_and_its_tools_and_lets_the_waiting_one_run(bench: Bench) -> None:
    bench.model.script = [tool_reply("mcp__a__x")]
    running = await bench.send("work")
    toolbox = bench.toolboxes[0]
    toolbox.gate.clear()
    async with asyncio.timeout(BOUND_S):
        await toolbox.called.wait()
    waiting = await bench.send("next")

    told = await bench.talk("/stop")

    ended = await end_of(running)
    assert "Stopped" in told.text
    assert "1 message waiting" in told.text
    assert ended.state == "cancelled"
    assert toolbox.aborted == 1
    assert (await end_of(waiting)).state == "completed"
    assert [row["role"] for row in bench.model.requests[-1]] == ["user", "assistant", "tool", "user"]


@pytest.mark.parametrize(
    ("fates", "told"),
    [
        (Aborted(), "Stopped."),
        (Aborted(ended=("browser", "shell")), "Stopped. Ended with it: browser, shell."),
        (Aborted(kept=("browser",)), "Stopped. Kept: browser."),
        (Aborted(ended=("shell",), kept=("browser",)), "Stopped. Ended with it: shell. Kept: browser."),
    ],
)
async def test_a_stop_tells_which_tool_servers_ended_with_the_turn(bench: Bench, fates: Aborted, told: str) -> None:
    bench.model.script = [tool_reply("mcp__a__x")] * 2
    for message in ("work", "/retry"):  # which runs the turn itself
        await bench.send(message)
        toolbox = bench.toolboxes[0]
        toolbox.fates = fates
        toolbox.gate.clear()
        toolbox.called.clear()
        async with asyncio.timeout(BOUND_S):
            await toolbox.called.wait()

        assert (await bench.talk("/stop")).text == told


async def test_stop_with_nothing_running_says_so(bench: Bench) -> None:
    assert (await bench.talk("/stop")).text == "Nothing is running here."


@pytest.mark.parametrize("named", [None, "k"])
async def test_a_stop_that_is_sent_again_stops_no_other_turn(bench: Bench, named: str | None) -> None:
    bench.model.gate.clear()
    one, two = await bench.send("one"), await bench.send("two")
    await bench.model.until_asked(1)
    stop = bench.message("/stop", idempotency_key=named)
    told = await bench.talk(stop)
    await bench.model.until_asked(2)

    again = await end_of(await bench.send(stop, again=True))
    repeated = await bench.talk("/stop", idempotency_key=named) if named else again

    assert told.text == again.text == repeated.text == "Stopped. 1 message waiting."
    bench.model.gate.set()
    assert (await end_of(one)).state == "cancelled"
    assert (await end_of(two)).state == "completed"


async def test_a_stop_is_accepted_before_the_turn_has_ended(bench: Bench) -> None:
    bench.model.script = [tool_reply("mcp__a__x")]
    running = await bench.send("work")
    async with asyncio.timeout(BOUND_S):
        await bench.toolboxes[0].called.wait()
    bench.store.gates["finish"] = asyncio.Event()  # its end takes long to be stored

    stop = bench.message("/stop")
    accepted = await bench.send(stop)

    assert accepted.ended is None
    assert await bench.send(stop, again=True) is accepted
    bench.store.gates["finish"].set()
    assert "Stopped" in (await end_of(accepted)).text
    assert (await end_of(running)).state == "cancelled"


async def test_a_reset_that_is_handed_over_again_is_done_once(bench: Bench) -> None:
    await bench.talk("one")
    reset = bench.message("/reset")

    told = [(await end_of(await bench.send(reset, again=again))).text for again in (False, True)]

    assert told[0] == told[1]
    assert bench.registry.renamed == 1


async def test_the_commands_that_are_known_again_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.sessions.admission.MAX_KNOWN_COMMANDS", 2)

    for _ in range(5):
        await bench.talk("/stop")

    assert len(bench.admission._commands) == 2


async def test_status_does_not_wait_for_the_turn_that_runs(bench: Bench) -> None:
    bench.model.gate.clear()
    running = await bench.send("work")
    await bench.model.until_asked(1)

    told = await bench.talk("/status")

    assert f"running {running.turn_id}" in told.text
    assert KEY in told.text


async def test_reset_begins_a_fresh_conversation_in_its_turn(bench: Bench) -> None:
    await bench.talk("one")
    told = await bench.talk("/reset")
    await bench.talk("two")

    assert "ses_0" in told.text
    assert contents(bench.model.requests[-1]) == ["two"]
    assert bench.registry.renamed == 1


async def test_a_reset_that_the_supervisor_does_not_answer_changes_nothing(bench: Bench) -> None:
    await bench.talk("one")
    bench.registry.down = True

    failed = await bench.talk("/new")
    bench.registry.down = False
    await bench.talk("two")

    assert failed.state == "failed"
    assert contents(bench.model.requests[-1]) == ["one", "re: one", "two"]


async def test_a_chosen_model_is_asked_for_until_it_is_taken_back_and_survives_sleep(bench: Bench) -> None:
    await bench.talk("/model big")
    await bench.sessions.evict(KEY)
    await bench.talk("one")
    shown = await bench.talk("/model")
    await bench.talk("/model default")
    await bench.talk("two")

    assert bench.model.asked_for == ["big", None]
    assert "big" in shown.text


async def test_retry_sends_the_last_message_again_in_place_of_the_earlier_turn(bench: Bench) -> None:
    await bench.talk("one")
    bench.model.script = [failed(status=400)]
    await bench.talk("two")
    bench.model.script = [text_reply("now it works")]

    again = await bench.talk("/retry")
    await bench.talk("three")

    assert again.text == "now it works"
    assert contents(bench.model.requests[-1]) == ["one", "re: one", "two", "now it works", "three"]
    assert len(await bench.store.transcript("ses_0")) == 3


async def test_retry_without_a_message_says_so(bench: Bench) -> None:
    assert "no message" in (await bench.talk("/retry")).text


async def test_commands_of_a_stateless_conversation_say_where_sessions_are(bench: Bench) -> None:
    told = await bench.talk("/reset", key="conv:default:1", stateless=True)

    assert "X-Hermes-Session-Id" in told.text
    assert bench.registry.renamed == 0


async def test_a_command_waits_its_turn_and_counts_in_the_mailbox(bench: Bench) -> None:
    bench.model.gate.clear()
    first = await bench.send("one")
    reset = await bench.send("/reset")
    second = await bench.send("two")
    bench.model.gate.set()

    for feed in (first, reset, second):
        await end_of(feed)

    assert contents(bench.model.requests[-1]) == ["two"]


async def test_a_retry_with_the_same_idempotency_key_is_one_turn(bench: Bench) -> None:
    await bench.talk("one")

    first = await bench.talk("/retry", idempotency_key="k")
    second = await bench.talk("/retry", idempotency_key="k")

    assert (first.text, second.text) == ("re: one", "re: one")
    assert first.turn_id == second.turn_id
    assert len(bench.model.requests) == 2


async def test_a_reset_with_the_same_idempotency_key_is_done_once(bench: Bench) -> None:
    await bench.talk("one")

    told = [(await bench.talk("/reset", idempotency_key="k")).text for _ in range(2)]

    assert told[0] == told[1]
    assert bench.registry.renamed == 1


@pytest.mark.parametrize("command", ["/retry", "/reset", "/model", "/stop", "/restart"])
async def test_a_key_that_named_a_message_is_refused_for_a_command(bench: Bench, command: str) -> None:
    await bench.talk("one", idempotency_key="k")

    with pytest.raises(Refusal) as refused:
        await bench.send(command, idempotency_key="k")

    assert refused.value.code == "idempotency_conflict"
    assert bench.registry.renamed == 0
    assert bench.restarts_wanted == []


async def test_a_retry_that_is_handed_over_again_is_not_run_again(bench: Bench) -> None:
    await bench.talk("one")
    retry = bench.message("/retry")
    await bench.talk(retry)

    ended = await end_of(await bench.send(retry, again=True))

    assert ended.text == "re: one"
    assert len(bench.model.requests) == 2


async def test_what_the_store_said_stays_in_the_log(bench: Bench) -> None:
    bench.store.broken = {"admit running"}

    with pytest.raises(Refusal) as refused:
        await bench.send("one")

    assert "full" not in refused.value.why
    assert "log" in refused.value.why


async def test_status_and_stop_wake_no_session(bench: Bench) -> None:
    told = await bench.talk("/status")
    await bench.talk("/stop")

    assert "not begun" in told.text
    assert bench.registry.activations == []


async def test_status_tells_what_a_sleeping_session_carries(bench: Bench) -> None:
    bench.registry.sessions = {KEY: "ses_a"}
    bench.registry.marks[KEY] = Marks(resume=Interrupted(reason="crash", at=0.0), strikes=2)

    cut = await bench.talk("/status")
    bench.registry.marks.clear()
    bench.registry.suspensions[KEY] = Suspended(reason="crash", at=0.0)
    suspended = await bench.talk("/status")
    bench.registry.down = True
    unknown = await bench.talk("/status")

    assert "ses_a" in cut.text
    assert "passivated" in cut.text
    assert "strikes   2 of 3" in cut.text
    assert "crash" in cut.text or "died" in cut.text
    assert "/resume" in suspended.text
    assert suspended.session_id == "ses_a"
    assert "not known now" in unknown.text
    assert bench.registry.activations == []


async def test_the_agent_of_a_stateless_conversation_sleeps_soon(bench: Bench) -> None:
    await bench.talk("hi", key="conv:default:1", stateless=True)

    async with asyncio.timeout(BOUND_S):
        await bench.toolboxes[0].closed.wait()
    assert bench.sessions.resident == 0


async def test_a_restart_whose_sender_gives_up_is_asked_for_as_a_whole(bench: Bench) -> None:
    gate = bench.store.gates["admit"] = asyncio.Event()
    sending = asyncio.ensure_future(bench.send("/restart", idempotency_key="k"))
    await until(lambda: bool(bench.store.journal))

    sending.cancel()
    await asyncio.wait((sending,))
    gate.set()

    await until(lambda: bench.restarts_wanted == ["api:default:a"])
    assert [operation for operation, _ in bench.store.journal] == ["admit running", "finish completed"]
