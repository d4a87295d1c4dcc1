/** A tool loop: the model asks for the weather until it has what it needs. */
import { createClient, functionTool, textOf, toolResult, user } from "togetherchat";

const ROUNDS_MAX = 4;
const client = createClient(process.argv[2] ?? "localhost:50051");
const weather = functionTool("get_weather", {
  description: "The weather of a city now",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
});

/** The arguments are the model's: JSON that may be broken. */
function lookUp(text: string): string {
  try {
    const { city } = JSON.parse(text) as { city: string };
    return JSON.stringify({ city, sky: "clear", celsius: 21 });
  } catch {
    return '{"error": "the arguments are no JSON"}';
  }
}

const messages = [user("What is the weather in Berlin?")];
for (let round = 1; round <= ROUNDS_MAX; round += 1) {
  // The last round goes without tools, so that the model has to answer.
  const tools = round < ROUNDS_MAX ? [weather] : [];
  const answer = await client.complete({ model: "openai/gpt-oss-120b", messages, tools });
  const turn = answer.choices[0]?.message;
  if (turn === undefined || turn.toolCalls.length === 0) {
    console.log(textOf(answer));
    break;
  }
  messages.push(turn);
  for (const call of turn.toolCalls) {
    console.error(`${call.call.value?.name ?? ""}(${call.call.value?.arguments ?? ""})`);
    messages.push(toolResult(call, lookUp(call.call.value?.arguments ?? "")));
  }
}
client.close();
