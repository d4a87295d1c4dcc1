/**
 * Reads the details of a failure.
 *
 * Owns the two forms in which they arrive: `google.rpc` messages in the status, and the plain-text
 * trailers `x-error-reason` and `x-error-retryable`. The text of the status message is for people
 * and is not parsed.
 */
import { durationMs, type Duration } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";

import { REQUEST_ID } from "./call_info.js";
import { namedByClient } from "./client_reasons.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  HelpSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
  RequestInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";

const DOMAIN = "togetherchat";
const REASON = "x-error-reason";
const RETRYABLE = "x-error-retryable";

/** An error in the request or a reached limit: `field` is a path such as `messages[2].content[0].text`, or a subject. */
export interface Violation {
  readonly field: string;
  readonly description: string;
}

/** What the service reports about a failure beside code and message. */
export interface Details {
  readonly reason: string;
  readonly requestId: string;
  readonly retryable: boolean | undefined;
  readonly retryAfterMs: number | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly Violation[];
  readonly resourceName: string;
  readonly helpUrls: readonly string[];
  /** What to check, if the client named the reason. Else empty. */
  readonly hint: string;
}

/** Reads the details of a failure. Parts that are missing or cannot be parsed stay empty. */
export function readDetails(error: ConnectError): Details {
  const trailers = error.metadata;
  // A proxy may send an ErrorInfo of its own. Only the service's domain counts.
  const info = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === DOMAIN);
  const [request] = error.findDetails(RequestInfoSchema);
  const [resource] = error.findDetails(ResourceInfoSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  const reason = info?.reason ?? trailers.get(REASON) ?? "";
  const named = reason === "" ? namedByClient(error) : undefined;
  return {
    reason: named?.reason ?? reason,
    hint: named?.hint ?? "",
    requestId: request?.requestId || (trailers.get(REQUEST_ID) ?? ""),
    retryable: named?.retryable ?? flag(trailers.get(RETRYABLE)),
    retryAfterMs: milliseconds(retry?.retryDelay),
    metadata: info?.metadata ?? {},
    violations: violationsOf(error),
    resourceName: resource?.resourceName ?? "",
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
