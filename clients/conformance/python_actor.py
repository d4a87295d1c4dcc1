"""Actor of the async Python client: python python_actor.py HOST:PORT. See README.md."""

import asyncio
import sys

from python_observation import ARGUMENTS_MODEL, Observation, Task, write_observation
from togetherchat_client import AsyncClient, TogetherChatError, connect_async
from togetherchat_client.requests import ListFields


async def main(target: str) -> None:
    async with connect_async(target) as client, connect_async(target, retries=False) as single:
        # Nothing else runs between two cases, so a blocking read is fine.
        for line in sys.stdin:
            task = Task.parse(line)
            if task.arguments:
                write_observation(await _check_arguments(task, target))
            else:
                write_observation(await _play(task, client if task.retries else single))


async def _check_arguments(task: Task, target: str) -> Observation:
    """Open a client with the case's arguments; call, unless the case is about the target."""
    seen = Observation(id=task.id)
    opened_target, keywords = task.connect_arguments(target)
    try:
        async with connect_async(opened_target, **keywords) as client:
            if "target" not in task.arguments:
                text, keywords = task.call_arguments()
                messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
                await client.complete(ARGUMENTS_MODEL, messages, **keywords)
    except ValueError as exc:
        seen.rejected(exc)
    except TogetherChatError as exc:
        seen.failed(exc)
    return seen


async def _play(task: Task, client: AsyncClient) -> Observation:
    seen = Observation(id=task.id)
    call = asyncio.create_task(_call(task, client, seen))
    if task.cancel.after_ms is not None:
        asyncio.get_running_loop().call_later(task.cancel.after_ms / 1000, call.cancel)
    try:
        await call
    except TogetherChatError as exc:
        seen.failed(exc)
    except asyncio.CancelledError:
        seen.code = "CANCELLED"
    return seen


async def _call(task: Task, client: AsyncClient, seen: Observation) -> None:
    match task.call:
        case "Complete":
            seen.response = await client.complete(
                task.complete_request(),
                timeout_s=task.timeout_s,
                request_id=task.id,
                metadata=task.metadata,
            )
        case "StreamComplete":
            await _stream(task, client, seen)
        case "GetModel":
            seen.response = await client.get_model(
                task.get_model_request().id,
                timeout_s=task.timeout_s,
                request_id=task.id,
                metadata=task.metadata,
            )
        case "QueryUsage":
            seen.response = await client.query_usage(
                timeout_s=task.timeout_s, request_id=task.id, metadata=task.metadata, **task.usage_fields()
            )
        case "ListQuotas":
            seen.response = await client.list_quotas(
                task.list_quotas_request().tenants,
                timeout_s=task.timeout_s,
                request_id=task.id,
                metadata=task.metadata,
            )
        case "ResetQuota":
            seen.response = await client.reset_quota(
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
            seen.response = await client.model_page(
                request.page_token,
                timeout_s=task.timeout_s,
                request_id=task.id,
                metadata=task.metadata,
                **filters,
            )


async def _stream(task: Task, client: AsyncClient, seen: Observation) -> None:
    async with client.stream(
        task.complete_request(), timeout_s=task.timeout_s, request_id=task.id, metadata=task.metadata
    ) as stream:
        async for _ in stream:
            seen.events += 1
            seen.response = stream.response
            if seen.events == task.cancel.after_events:
                seen.code = "CANCELLED"
                break


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
