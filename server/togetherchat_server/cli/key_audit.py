"""Writes the changes of `togetherchat-server keys` to the audit log, each before it is made.

A change without its line could be hidden by a full disk. A line without its change is followed by a
second one, with the problem.
"""

import os
import pwd
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final, final

from togetherchat_server.config import SettingsError
from togetherchat_server.config.types import OFF
from togetherchat_server.domain.audit import AuditEvent, audit_entry
from togetherchat_server.domain.reasons import sanitise
from togetherchat_server.telemetry.audit_file import AuditFile, line_of, open_audit_file
from togetherchat_server.tenants.key_file import KeyLine

AUDIT_LOG_VARIABLE: Final = "TOGETHERCHAT_AUDIT_LOG"


@final
class KeyAudit:
    """The audit log of one run of the command. Without a file, nothing is written."""

    def __init__(self, file: AuditFile | None, *, target: str, operator: str) -> None:
        self._file = file
        self._target = target
        self._operator = operator

    @contextmanager
    def change(self, event: AuditEvent, *keys: KeyLine, now: datetime) -> Generator[None]:
        """Write a line for each key; the context then makes the change.

        Raises:
            SettingsError: the lines cannot be written. The context does not run.
        """
        try:
            self._append(event, keys, now)
        except OSError as exc:
            raise SettingsError(
                f"--audit-log {self._target}: cannot write the file: {exc.strerror}; no key was changed"
            ) from None
        try:
            yield
        except OSError as exc:
            with suppress(OSError):
                self._append(event, keys, now, problem=f"the keys file was not changed: {exc.strerror}")
            raise

    def _append(
        self, event: AuditEvent, keys: tuple[KeyLine, ...], now: datetime, *, problem: str = ""
    ) -> None:
        if self._file is None:
            return
        entries = (
            audit_entry(
                event,
                now.timestamp(),
                key_id=key.id,
                tenant=key.tenant,
                label=key.label,
                expires=key.expires,
                scopes=",".join(key.scopes),
                operator=self._operator,
                problem=problem,
            )
            for key in keys
        )
        self._file.append("".join(f"{line_of(entry)}\n" for entry in entries))


@contextmanager
def open_key_audit(flag: str | None, environment: Mapping[str, str]) -> Generator[KeyAudit]:
    """Open the audit log that the flag or the environment names, if any, while the context is open.

    Raises:
        SettingsError: the file cannot be opened.
    """
    target = environment.get(AUDIT_LOG_VARIABLE, "") if flag is None else flag
    file = None if target in {"", OFF} else open_audit_file(target)
    try:
        yield KeyAudit(file, target=target, operator=operator_of(environment))
    finally:
        if file is not None:
            file.close()


def operator_of(environment: Mapping[str, str]) -> str:
    """Return the login of the user who runs the command: before sudo, if it was used."""
    before_sudo = sanitise(environment.get("SUDO_USER", ""))
    if before_sudo:
        return before_sudo
    user_id = os.getuid()
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"uid {user_id}"
