// The AI SDK with @ai-sdk/openai, whose default is /v1/responses.
import { createOpenAI } from "@ai-sdk/openai";
import { inSdk } from "./ai_sdk.mjs";
import { MODEL, answering } from "./asked.mjs";

await answering((asked) => {
  const gateway = createOpenAI({ baseURL: asked.base_url, apiKey: asked.key, headers: asked.headers });
  return inSdk(asked.responses ? gateway(MODEL) : gateway.chat(MODEL), asked);
});
