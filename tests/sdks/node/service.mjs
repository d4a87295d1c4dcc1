// Runs the service as a process, and reads the request log of its sandbox.
//
// TOGETHERCHAT_PYTHON names the Python that has the service.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
const FLAGS = ["-m", "togetherchat_server", "--sandbox", "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off",
  "--max-retries", "0", "--sandbox-tokens-per-second", "100", "--log-format", "json"];

/** Starts the service; `stop` stops it. */
export async function serve(http = "127.0.0.1:0") {
  const env = { PATH: process.env.PATH, PYTHONPATH: `${join(ROOT, "protos")}:${join(ROOT, "server")}` };
  const child = spawn(process.env.TOGETHERCHAT_PYTHON, [...FLAGS, "--http-listen", http],
    { env, stdio: ["ignore", "ignore", "pipe"] });
  for await (const line of createInterface({ input: child.stderr })) {
    const found = /HTTP on (\S+), .*simulated completions from (\S+)\/v1/.exec(line);
    if (found) {
      child.stderr.resume();
      return { baseURL: found[1], simulator: found[2], stop: () => stop(child) };
    }
  }
  throw new Error(`the service exited with status ${child.exitCode} before it was ready`);
}

/** Returns the logged requests for a model. */
export async function requestsFor(service, model) {
  const response = await fetch(`${service.simulator}/sandbox/request-log?model=${model}`);
  return (await response.json()).requests;
}

/** Waits until the only request for a model has ended, and returns how. */
export async function endOf(service, model) {
  for (let tries = 0; tries < 1000; tries++) {
    const [request] = await requestsFor(service, model);
    if (request && request.ended !== "running") return request.ended;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${model} did not end`);
}

function stop(child) {
  return new Promise((resolve) => {
    child.once("exit", resolve);
    child.kill("SIGTERM");
  });
}
