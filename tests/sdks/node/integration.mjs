// Tests one client: a test for each of the six features that programs use.
//
// Each passed test is a line of JSON in the file that INTEGRATIONS_OUT names, if it is set (../README.md).
import { appendFileSync } from "node:fs";
import { relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ROOT } from "./service.mjs";

const FEATURES = ["call", "stream", "tools", "schema", "errors", "cancel"];

/**
 * Declares the tests of a client. `features` has a function for each feature, or one sentence: why the
 * client does not have it. `url` is the address of the calling module.
 */
export function integration(client, url, features) {
  const source = relative(ROOT, fileURLToPath(url));
  const unknown = Object.keys(features).filter((feature) => !FEATURES.includes(feature));
  if (unknown.length > 0) throw new Error(`${client}: not a feature: ${unknown}`);
  for (const feature of FEATURES) {
    const run = features[feature];
    if (typeof run === "string") {
      record({ client, feature, result: "n/a", source, reason: run });
      continue;
    }
    test(`${client}: ${feature}`, async () => {
      await run();
      record({ client, feature, result: "yes", source });
    });
  }
}

function record(line) {
  if (process.env.INTEGRATIONS_OUT) appendFileSync(process.env.INTEGRATIONS_OUT, `${JSON.stringify(line)}\n`);
}
