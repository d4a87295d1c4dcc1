/**
 * Reads the details of a failure.
 *
 * Owns the two forms in which they come: `google.rpc` messages in the status, and the plain
 * twins `x-error-reason` and `x-error-retryable` in the trailers. The text of the message is
 * for people; nothing here looks at it.
 */
import { durationMs, type Duration } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";

import { REQUEST_ID } from "./call_info.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  HelpSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";

const DOMAIN = "togetherchat";
const REASON = "x-error-reason";
const RETRYABLE = "x-error-retryable";

/** One thing wrong: `field` is a path such as `messages[2].content[0].text`, or a quota's subject. */
export interface Violation {
  readonly field: string;
  readonly description: string;
}

/** What the service said about a failure, beyond its status. */
export interface Details {
  readonly reason: string;
  readonly requestId: string;
  readonly retryable: boolean | undefined;
  readonly retryAfterMs: number | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly Violation[];
  readonly helpUrls: readonly string[];
}

/** The details of a failure. A part that is missing or cannot be parsed is left out. */
export function readDetails(error: ConnectError): Details {
  const trailers = error.metadata;
  // A proxy between may answer with an ErrorInfo of its own: its words are not ours.
  const info = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === DOMAIN);
  const [request] = error.findDetails(RequestInfoSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  return {
    reason: info?.reason ?? trailers.get(REASON) ?? "",
    requestId: request?.requestId || (trailers.get(REQUEST_ID) ?? ""),
    retryable: flag(trailers.get(RETRYABLE)),
    retryAfterMs: milliseconds(retry?.retryDelay),
    metadata: info?.metadata ?? {},
    violations: violationsOf(error),
    helpUrls: error.findDetails(HelpSchema).flatMap(({ links }) => links.map(({ url }) => url)),
  };
}

function violationsOf(error: ConnectError): Violation[] {
  return [
    ...error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations),
    ...error.findDetails(QuotaFailureSchema).flatMap((detail) => detail.violations.map(ofSubject)),
    ...error.findDetails(PreconditionFailureSchema).flatMap((detail) => detail.violations.map(ofSubject)),
  ].map(({ field, description }) => ({ field, description }));
}

function ofSubject({ subject, description }: { subject: string; description: string }): Violation {
  return { field: subject, description };
}

function milliseconds(delay: Duration | undefined): number | undefined {
  return delay === undefined ? undefined : durationMs(delay);
}

function flag(text: string | null): boolean | undefined {
  return text === "true" ? true : text === "false" ? false : undefined;
}
