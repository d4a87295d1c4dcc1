"""Actor of the sync Python client: python python_blocking_actor.py HOST:PORT. See README.md."""

import sys
import threading

from python_observation import ARGUMENTS_MODEL, Observation, Task, write_observation
from togetherchat_client import Client, TogetherChatError, connect
from togetherchat_client.requests import ListFields


def main(target: str) -> None:
    with connect(target) as client, connect(target, retries=False) as single:
        for line in sys.stdin:
            task = Task.parse(line)
            if task.arguments:
                write_observation(_check_arguments(task, target))
            elif task.cancel.after_ms is None:
                write_observation(_play(task, client if task.retries else single))
            else:
                write_observation(_play_until(task, target, task.cancel.after_ms))


def _check_arguments(task: Task, target: str) -> Observation:
    """Open a client with the case's arguments; call, unless the case is about the target."""
    seen = Observation(id=task.id)
    opened_target, keywords = task.connect_arguments(target)
    try:
        with connect(opened_target, **keywords) as client:
            if "target" not in task.arguments:
                text, keywords = task.call_arguments()
                messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
                client.complete(ARGUMENTS_MODEL, messages, **keywords)
    except ValueError as exc:
        seen.rejected(exc)
    except TogetherChatError as exc:
        seen.failed(exc)
    return seen


def _play_until(task: Task, target: str, after_ms: int) -> Observation:
    """Make a call, and cancel it after `after_ms` by closing its client from another thread."""
    with connect(target, retries=task.retries) as client:
        timer = threading.Timer(after_ms / 1000, client.close)
        timer.start()
        try:
            return _play(task, client)
        finally:
            timer.cancel()
            timer.join()


def _play(task: Task, client: Client) -> Observation:
    seen = Observation(id=task.id)
    try:
        _call(task, client, seen)
    except TogetherChatError as exc:
        seen.failed(exc)
    return seen


def _call(task: Task, client: Client, seen: Observation) -> None:
    match task.call:
        case "Complete":
            seen.response = client.complete(
                task.complete_request(),
                timeout_s=task.timeout_s,
                request_id=task.id,
                metadata=task.metadata,
            )
        case "StreamComplete":
            _stream(task, client, seen)
        case "GetModel":
            seen.response = client.get_model(
                task.get_model_request().id,
                timeout_s=task.timeout_s,
                request_id=task.id,
                metadata=task.metadata,
            )
        case "QueryUsage":
            seen.response = client.query_usage(
                timeout_s=task.timeout_s, request_id=task.id, metadata=task.metadata, **task.usage_fields()
            )
        case "ListQuotas":
            seen.response = client.list_quotas(
                task.list_quotas_request().tenants,
                timeout_s=task.timeout_s,
                request_id=task.id,
                metadata=task.metadata,
            )
        case "ResetQuota":
            seen.response = client.reset_quota(
                task.reset_quota_request().tenant,
                timeout_s=task.timeout_s,
                request_id=task.id,
                metadata=task.metadata,
            )
        case _:
            request = task.list_request()
            filters: ListFields = {
                "page_size": request.page_size,
                "query": request.query,
                "order_by": request.order_by,
            }
            seen.response = client.model_page(
                request.page_token,
                timeout_s=task.timeout_s,
                request_id=task.id,
                metadata=task.metadata,
                **filters,
            )


def _stream(task: Task, client: Client, seen: Observation) -> None:
    with client.stream(
        task.complete_request(), timeout_s=task.timeout_s, request_id=task.id, metadata=task.metadata
    ) as stream:
        for _ in stream:
            seen.events += 1
            seen.response = stream.response
            if seen.events == task.cancel.after_events:
                seen.code = "CANCELLED"
                break


if __name__ == "__main__":
    main(sys.argv[1])
