// What the tests of all clients send.
export const MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo";
export const TEXT = "Hello there, friend.";
export const SAY = `say: ${TEXT}`;
export const LONG = Array(20).fill(TEXT).join(" ");
export const SAY_LONG = `say: ${LONG}`;
export const WEATHER_QUESTION = "What is the weather in Paris?";
export const PERSON_QUESTION = "Who? Answer in JSON.";
export const STATUSES = [401, 404, 429, 500, 503];

export const user = (content) => [{ role: "user", content }];

export const WEATHER_PARAMETERS = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
};
export const WEATHER = {
  type: "function",
  function: { name: "get_weather", description: "The weather of a city", parameters: WEATHER_PARAMETERS },
};
export const PERSON = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
};
