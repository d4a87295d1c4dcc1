"""Messages of the contract as JSON text, for `--json`."""

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message


def to_json(message: Message, *, pretty: bool) -> str:
    """`message` as JSON with the field names of the protos. 64-bit numbers are strings, as in ProtoJSON."""
    return MessageToJson(message, preserving_proto_field_name=True, indent=2 if pretty else None)
