"""API keys files, created with the command as an operator creates them."""

import io
import json
from datetime import UTC, datetime

from togetherchat_server.cli.keys import CommandContext, run_keys
from togetherchat_server.tenants.key_format import key_id_of


def now_of(text):
    return datetime.fromisoformat(text).timestamp()


class Keys:
    """`togetherchat-server keys` on one file."""

    def __init__(self, path, *, today="2029-06-01T00:00:00+00:00"):
        self.path = path
        self.today = datetime.fromisoformat(today).astimezone(UTC)

    def run(self, *words, environment=None):
        """Return the status, and the texts of the two streams."""
        out, error = io.StringIO(), io.StringIO()
        environment = {"TOGETHERCHAT_API_KEYS_FILE": str(self.path)} if environment is None else environment
        status = run_keys(
            words, CommandContext(environment=environment, out=out, error=error, now=lambda: self.today)
        )
        return status, out.getvalue(), error.getvalue()

    def create(self, tenant, *words):
        """Create a key and return it."""
        status, out, error = self.run("create", "--tenant", tenant, *words)
        assert 0 == status, error
        return out.strip()

    def revoke(self, text):
        status, _, error = self.run("revoke", key_id_of(text))
        assert 0 == status, error

    def listed(self, *words):
        status, out, error = self.run("list", "--json", *words)
        assert 0 == status, error
        return json.loads(out)


def bearer(text, *more):
    """Return metadata with a key."""
    return [("authorization", f"Bearer {text}"), *more]
