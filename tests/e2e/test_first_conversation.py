"""The main job, end to end: messages in, agents with tools on every core, answers out."""

from __future__ import annotations

from fakes.running_gateway import RunningGateway


async def test_sessions_talk_over_all_workers_with_tools_and_keep_their_transcripts(demo: RunningGateway) -> None:
    names = [f"s{number}" for number in range(12)]
    for name in names:
        assert await demo.say(f"I am {name}", name) == f"You said: I am {name}"

    told = await demo.say('call get_current_time {"timezone": "UTC"}', "s0")
    assert "UTC" in told

    async with demo.openai() as client:
        stream = await client.chat.completions.create(
            model="x",
            messages=[{"role": "user", "content": "say 5 words"}],
            stream=True,
            extra_headers={"X-Hermes-Session-Id": "s1"},
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert len("".join(pieces).split()) == 5
    assert len(pieces) > 2

    code, listed = await demo.ctl_json("sessions", "list")
    assert code == 0
    assert {session["key"] for session in listed["sessions"]} == {f"api:default:{name}" for name in names}
    assert {session["worker"] for session in listed["sessions"]} == {0, 1}

    status, page, _ = await demo.request("GET", "/api/sessions/s0/messages")
    assert status == 200
    roles = [row["message"]["role"] for row in page["data"]]
    assert roles == ["user", "assistant", "user", "assistant", "tool", "assistant"]
