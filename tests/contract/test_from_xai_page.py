"""The page for users of xAI's protos names what our contract has."""

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor

from togetherchat.v1 import chat_pb2, chat_service_pb2, models_pb2

PAGE = Path(__file__).parents[2] / "docs" / "from-xai.md"
FILES: tuple[FileDescriptor, ...] = (
    chat_pb2.DESCRIPTOR,
    chat_service_pb2.DESCRIPTOR,
    models_pb2.DESCRIPTOR,
)
SERVICE = chat_service_pb2.DESCRIPTOR.services_by_name["ChatService"]
MESSAGES: dict[str, Descriptor] = {
    name: message for file in FILES for name, message in file.message_types_by_name.items()
}
ENUMS: dict[str, EnumDescriptor] = {
    name: enum for file in FILES for name, enum in file.enum_types_by_name.items()
}
NAME = re.compile(r"`([A-Z]\w*(?:\.\w+)?)`")
"""Types, fields as `Message.field`, methods as `Service.Method`, and values of enums; not plain words."""


def names_on_our_side() -> list[str]:
    rows = [
        line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ") and "---" not in line
    ]
    ours = [name for row in rows for name in NAME.findall(row.strip("| ").split(" | ")[1])]
    return sorted(set(ours))


def exists(name: str) -> bool:
    """Return whether the contract has this method, field, message, enum or value."""
    parent, _, member = name.partition(".")
    if not member:
        return (
            parent in MESSAGES
            or parent in ENUMS
            or any(parent in enum.values_by_name for enum in ENUMS.values())
        )
    if parent == SERVICE.name:
        return member in SERVICE.methods_by_name
    return parent in MESSAGES and member in MESSAGES[parent].fields_by_name


@pytest.mark.parametrize("name", names_on_our_side())
def test_a_name_of_the_right_column_exists(name):
    """A rename in the contract must be made on the page as well."""
    assert exists(name)


def test_the_page_has_every_method_and_the_most_used_messages():
    """A user of the other protos finds the four methods, and each message on the way to a completion."""
    named = {name.partition(".")[0] for name in names_on_our_side()}
    methods = {f"{SERVICE.name}.{method}" for method in SERVICE.methods_by_name}

    assert methods <= set(names_on_our_side())
    assert {
        "CompleteRequest",
        "CompleteResponse",
        "StreamCompleteResponse",
        "Delta",
        "Usage",
        "Model",
    } <= named


@pytest.mark.parametrize(
    "name", ["CompleteRequest.prompt", "Nothing", "ChatService.GetCompletion", "ROLE_ROBOT"]
)
def test_a_name_that_the_contract_lacks_is_found(name):
    """The check can fail."""
    assert not exists(name)
