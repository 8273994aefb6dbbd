// A chat with the Vercel AI SDK (versions 5 and 6), exported as the environment says.
import { openai } from "@ai-sdk/openai";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const telemetry = new NodeSDK();
telemetry.start();

const tools = {
  get_order: tool({
    description: "Look up an order by its number",
    inputSchema: z.object({ id: z.number() }),
    execute: async ({ id }) => ({ id, status: "shipped" }),
  }),
};
const model = openai.chat("gpt-4o");
const system = "You answer questions about orders.";
const experimental_telemetry = { isEnabled: true, metadata: { sessionId: "chat-7", userId: "u-1" } };

const asked = 'Where is order 7? [[tool:get_order {"id": 7}]][[then]][[say It is on its way.]]';
const messages = [{ role: "user", content: asked }];
const options = { model, system, experimental_telemetry };
const first = await generateText({ ...options, messages, tools, stopWhen: stepCountIs(3) });
messages.push(...first.response.messages, { role: "user", content: "Thanks! [[say You are welcome.]]" });
for await (const text of streamText({ ...options, messages }).textStream) process.stdout.write(text);

const alone = { experimental_telemetry: { isEnabled: true } };
await generateText({ ...alone, model: openai("gpt-4o"), system, prompt: "Hello [[say Hi.]]" });
try {
  await generateText({ ...alone, model, prompt: "Fail [[error:400 x]]", maxRetries: 0 });
} catch (error) {
  console.log(error.message);
}
await telemetry.shutdown();
