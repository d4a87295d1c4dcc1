/** A tool loop: the model calls a weather function until it replies with text. */
import { createClient, functionTool, textOf, toolResult, user } from "togetherchat";

const ROUNDS_MAX = 4;
const client = createClient(process.argv[2] ?? "localhost:50051");
const weather = functionTool("get_weather", {
  description: "The weather of a city now",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
});

/** The arguments come from the model and may be invalid JSON. */
function lookUp(text: string): string {
  try {
    const { city } = JSON.parse(text) as { city: string };
    return JSON.stringify({ city, sky: "clear", celsius: 21 });
  } catch {
    return '{"error": "the arguments are not JSON"}';
  }
}

const messages = [user("What is the weather in Berlin?")];
for (let round = 1; round <= ROUNDS_MAX; round += 1) {
  // The last round offers no tools, so that the model has to reply with text.
  const tools = round < ROUNDS_MAX ? [weather] : [];
  const response = await client.complete({ model: "openai/gpt-oss-120b", messages, tools });
  const message = response.choices[0]?.message;
  if (message === undefined || message.toolCalls.length === 0) {
    console.log(textOf(response));
    break;
  }
  messages.push(message);
  for (const call of message.toolCalls) {
    console.error(`${call.call.value?.name ?? ""}(${call.call.value?.arguments ?? ""})`);
    messages.push(toolResult(call, lookUp(call.call.value?.arguments ?? "")));
  }
}
client.close();
