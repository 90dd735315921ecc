// LangChain.js.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { LOOK, MODEL, answering, look } from "./asked.mjs";

await answering(async (asked) => {
  const model = new ChatOpenAI({
    model: MODEL,
    apiKey: asked.key,
    useResponsesApi: asked.responses,
    configuration: { baseURL: asked.base_url, defaultHeaders: asked.headers },
    ...(asked.timeout_s === null ? {} : { timeout: asked.timeout_s * 1000 }),
  });
  const chat = asked.tool ? model.bindTools([{ type: "function", function: LOOK }]) : model;
  const messages = [new HumanMessage(asked.text)];
  if (asked.stream) {
    let text = "";
    for await (const chunk of await chat.stream(messages)) text += chunk.text;
    return text;
  }
  for (;;) {
    const answer = await chat.invoke(messages);
    if (!answer.tool_calls?.length) return answer.text;
    messages.push(answer);
    for (const call of answer.tool_calls)
      messages.push(new ToolMessage({ content: look(call.args), tool_call_id: call.id }));
  }
});
