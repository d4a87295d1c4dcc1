"""The tables of validation cover every field, role and mode of the contract."""

import dataclasses
import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.validation import RequestLimits, validate
from togetherchat_server.calls.validation.messages import ROLES
from togetherchat_server.calls.validation.options import COVERED, OWN, RANGES, RESERVED
from togetherchat_server.calls.validation.tools import TOOL_CHOICE_MODES
from togetherchat_server.domain.reasons import ServiceError

PAGE = Path(__file__).parents[3] / "docs" / "openai-api.md"
FIELDS = service.CompleteRequest.DESCRIPTOR.fields_by_name
NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_DOUBLE,
}


def test_every_field_lists_the_provider_names_that_it_covers():
    """A field that is added to the contract fails here until it has an entry."""
    assert set(FIELDS) == set(COVERED)


def test_every_field_that_is_sent_covers_a_name():
    """Only two fields are not sent to the provider under a name of their own."""
    assert {"fallback_models", "extra_body_json"} == {name for name, covers in COVERED.items() if not covers}


def test_no_two_fields_cover_one_name():
    """Otherwise one of the two would be lost in the translation."""
    assert len(RESERVED) == sum(len(covers) for covers in COVERED.values()) + len(OWN)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_no_reserved_name_is_allowed_in_extra_body(name):
    """Every reserved name is rejected."""
    request = service.CompleteRequest(
        model="m",
        messages=[chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text="hi")])],
        extra_body_json=f'{{"{name}": 1}}',
    )
    with pytest.raises(ServiceError) as raised:
        validate(request, RequestLimits())
    assert [violation.field for violation in raised.value.violations] == ["extra_body_json"]


def test_every_number_has_a_range():
    """A seed may be any integer, and is not among them."""
    numbers = {name for name, field in FIELDS.items() if field.cpp_type in NUMBERS and not field.message_type}
    assert numbers == set(RANGES)


def test_every_role_and_mode_of_the_contract_is_known():
    """A value that is added to the contract is accepted without another change."""
    assert set(chat.Role.values()) - {0} == ROLES
    assert set(chat.ToolChoiceMode.values()) == TOOL_CHOICE_MODES


def test_every_limit_is_documented():
    """The page has each bound as a number, and each range in the words of its rule."""
    section = PAGE.read_text("utf-8").split("## Limits of a request")[1].split("\n## ")[0]
    elsewhere = {"max_request_bytes", "violations_max", "elements_max"}
    bounds = {field.name: field.default for field in dataclasses.fields(RequestLimits)}

    missing = {name for name, bound in bounds.items() if not re.search(rf"\b{bound:,}\b", section)}
    assert missing <= elsewhere
    assert [] == [name for name in RANGES if f"`{name}`" not in section and not name.endswith("_penalty")]
