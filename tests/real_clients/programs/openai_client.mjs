// The official client for Node.
import OpenAI from "openai";
import { LOOK, MODEL, answering, look } from "./asked.mjs";

async function inChat(client, asked) {
  const messages = [{ role: "user", content: asked.text }];
  const tools = asked.tool ? { tools: [{ type: "function", function: LOOK }] } : {};
  if (asked.stream) {
    let text = "";
    const stream = await client.chat.completions.create({ model: MODEL, messages, stream: true, ...tools });
    for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
    return text;
  }
  for (;;) {
    const { message } = (await client.chat.completions.create({ model: MODEL, messages, ...tools })).choices[0];
    if (!message.tool_calls) return message.content;
    messages.push(message);
    for (const call of message.tool_calls)
      messages.push({ role: "tool", tool_call_id: call.id, content: look(JSON.parse(call.function.arguments)) });
  }
}

async function inResponses(client, asked) {
  const input = [{ role: "user", content: asked.text }];
  const tools = asked.tool ? { tools: [{ type: "function", ...LOOK }] } : {};
  if (asked.stream) {
    let text = "";
    const stream = await client.responses.create({ model: MODEL, input, stream: true, ...tools });
    for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
    return text;
  }
  for (;;) {
    const response = await client.responses.create({ model: MODEL, input, ...tools });
    const calls = response.output.filter((item) => item.type === "function_call");
    if (!calls.length) return response.output_text;
    input.push(...response.output);
    for (const call of calls)
      input.push({ type: "function_call_output", call_id: call.call_id, output: look(JSON.parse(call.arguments)) });
  }
}

await answering((asked) => {
  const timeout = asked.timeout_s === null ? {} : { timeout: asked.timeout_s * 1000 };
  const client = new OpenAI({ baseURL: asked.base_url, apiKey: asked.key, defaultHeaders: asked.headers, ...timeout });
  return asked.responses ? inResponses(client, asked) : inChat(client, asked);
});
