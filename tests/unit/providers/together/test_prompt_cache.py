"""The key by which the provider routes a request to a prompt cache."""

import dataclasses
import re

import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import prompt_cache

KEY = Secret("tgp_v1_canary0123456789")
CALL = Call(
    id="1", method="m", received_s=0, deadline_s=1, deadline_reason=Reason.CALL_TIMEOUT, upstream_key=KEY
)
ACME, OTHER = dataclasses.replace(CALL, tenant="acme"), dataclasses.replace(CALL, tenant="other")


def said(role, text):
    return chat.Message(role=role, content=[chat.ContentPart(text=text)])


SYSTEM = said(chat.ROLE_SYSTEM, "Be brief.")
FIRST = said(chat.ROLE_USER, "What is a permit?")
REPLY = said(chat.ROLE_ASSISTANT, "Capacity for one call.")
SECOND = said(chat.ROLE_USER, "And a queue?")


def tool(name="f", parameters="{}"):
    return chat.Tool(function=chat.FunctionTool(name=name, parameters_json=parameters))


def request(*messages, model="m", **fields):
    return service.CompleteRequest(model=model, messages=messages or (SYSTEM, FIRST), **fields)


def key_of(asked, call=ACME, *, derive=True, with_user=True):
    return prompt_cache.key_of(asked, call, derive=derive, with_user=with_user)


def test_the_turns_of_a_conversation_have_one_key():
    """Later messages do not change it, nor do the parameters of a turn."""
    turns = [
        request(SYSTEM, FIRST),
        request(SYSTEM, FIRST, REPLY, SECOND),
        request(SYSTEM, FIRST, REPLY, SECOND, temperature=0.1, max_tokens=5, seed=7),
    ]

    assert 1 == len({key_of(turn) for turn in turns})


@pytest.mark.parametrize(
    "changed",
    [
        request(SYSTEM, SECOND),
        request(FIRST),
        request(said(chat.ROLE_SYSTEM, "Be long."), FIRST),
        request(said(chat.ROLE_DEVELOPER, "Be brief."), SYSTEM, FIRST),
        request(model="n"),
        request(user="u"),
        request(tools=[tool()]),
        request(tools=[tool(), tool("g")]),
        request(tools=[tool(parameters='{"type":"object"}')]),
        request(
            SYSTEM,
            chat.Message(
                role=chat.ROLE_USER,
                content=[
                    *FIRST.content,
                    chat.ContentPart(image=chat.Image(data=b"x", media_type="image/png")),
                ],
            ),
        ),
    ],
)
def test_what_begins_another_prompt_changes_the_key(changed):
    """Instructions, tools, the first message of the user, the model and the user."""
    assert key_of(request()) != key_of(changed)


def test_the_key_reveals_nothing():
    """It has one form, whatever the prompt."""
    for asked in (request(), request(user="alice@example.com"), request(prompt_cache_key="my key")):
        assert re.fullmatch("[0-9a-f]{32}", key_of(asked))


def test_no_tenant_has_the_key_of_another():
    """Neither a derived one nor its own word is shared, and another provider key gives another one."""
    for asked in (request(), request(prompt_cache_key="k")):
        keys = [key_of(asked, ACME), key_of(asked, OTHER)]
        keys.append(key_of(asked, dataclasses.replace(ACME, upstream_key=Secret("another-key"))))
        assert 3 == len(set(keys))


def test_a_tenant_cannot_send_a_derived_key():
    """The key of another tenant's conversation, sent as one's own, is hashed again."""
    derived = key_of(request(), ACME)

    assert derived != key_of(request(prompt_cache_key=derived), OTHER)
    assert derived != key_of(request(prompt_cache_key=derived), ACME)


def test_parts_are_not_confused_with_each_other():
    """The same characters, divided differently, are another prompt."""
    divided = [
        request(said(chat.ROLE_SYSTEM, "ab"), said(chat.ROLE_SYSTEM, "c"), FIRST),
        request(said(chat.ROLE_SYSTEM, "a"), said(chat.ROLE_SYSTEM, "bc"), FIRST),
        request(said(chat.ROLE_SYSTEM, "abc"), FIRST),
    ]

    assert 3 == len({key_of(asked) for asked in divided})


def test_without_a_tenant_a_callers_key_is_sent_as_it_is():
    """There is nobody to protect from."""
    assert "k" == key_of(request(prompt_cache_key="k"), CALL)


def test_without_affinity_only_a_callers_key_is_sent():
    """A tenant's own key is hashed all the same."""
    assert "" == key_of(request(), derive=False)
    assert "k" == key_of(request(prompt_cache_key="k"), CALL, derive=False)
    assert key_of(request(prompt_cache_key="k")) == key_of(request(prompt_cache_key="k"), derive=False)


def test_a_user_that_is_not_forwarded_is_not_in_the_key():
    """The provider, which has the key, could otherwise compare it with the keys of known users."""
    assert key_of(request(), with_user=False) == key_of(request(user="u"), with_user=False)


def test_a_provider_without_a_key_gets_one_too():
    """The sandbox needs none."""
    call = dataclasses.replace(CALL, upstream_key=None)

    assert re.fullmatch("[0-9a-f]{32}", key_of(request(), call))


class CountingSecret:
    """Counts the bytes that are hashed."""

    def __init__(self):
        self.hashed = 0

    def keyed_hash(self, parts):
        self.hashed = sum(len(part) for part in parts)
        return ""


def test_a_large_prompt_is_hashed_in_part():
    """The event loop must not be held up by 17 MB, in a few texts or in many."""
    text = "x" * 2**20
    large = request(
        *(said(chat.ROLE_SYSTEM, text) for _ in range(16)),
        said(chat.ROLE_USER, text),
        tools=[tool(parameters=text) for _ in range(16)],
    )
    many = request(*(said(chat.ROLE_SYSTEM, "x" * 4096) for _ in range(4096)), FIRST)
    for asked in (large, many):
        secret = CountingSecret()
        key_of(asked, dataclasses.replace(CALL, upstream_key=secret))
        assert secret.hashed <= prompt_cache.BYTES_MAX + prompt_cache.PART_CHARACTERS_MAX + 100


def test_the_first_message_of_the_user_counts_after_long_instructions():
    """Conversations of one application differ in it."""
    instructions = [said(chat.ROLE_SYSTEM, "x" * 4096) for _ in range(100)]

    assert key_of(request(*instructions, FIRST)) != key_of(request(*instructions, SECOND))
