// The AI SDK with @ai-sdk/openai-compatible.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { inSdk } from "./ai_sdk.mjs";
import { MODEL, answering } from "./asked.mjs";

await answering((asked) => {
  const gateway = createOpenAICompatible({ name: "gateway", baseURL: asked.base_url, apiKey: asked.key, headers: asked.headers });
  return inSdk(gateway(MODEL), asked);
});
