"""A real PostgreSQL server on a free port, started as a plain user in a folder of its own."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from support.ports import reserved_address
from togetherchat_server.usage.database import UsageDatabase

PROGRAMS = Path(os.environ.get("POSTGRES_PROGRAMS", ""))
PASSWORD = "canary-password-of-the-database"
REASONABLE_S = 60.0


def as_plain_user(*command):
    """Return the command for a user that is not root: as root PostgreSQL does not start."""
    if os.getuid() != 0:
        return [*command]
    user = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *command]


def programs_for_a_plain_user(folder):
    """Return the folder of the programs: a copy, if the user cannot read this working tree."""
    assert (PROGRAMS / "postgres").exists(), (
        "run `make test-usage`, or set POSTGRES_PROGRAMS to initdb's folder"
    )
    if 0 == subprocess.run(as_plain_user("test", "-x", str(PROGRAMS / "postgres")), check=False).returncode:
        return PROGRAMS
    copy = shutil.copytree(PROGRAMS, folder / "programs", symlinks=True)
    copy.chmod(0o755)
    return copy


class PostgresServer:
    """A server with one database, and a password."""

    def __init__(self, folder, port):
        self.folder = folder
        self.port = port
        self._programs = programs_for_a_plain_user(folder)
        self._process = None
        if os.getuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        self._run(
            "initdb", "--no-sync", "--auth=scram-sha-256", "--username=ledger", f"--pwfile={folder / 'password'}",
            "--locale=C.UTF-8", "--encoding=UTF8", "-D", str(folder / "data"),
        )  # fmt: skip

    @property
    def url(self):
        return f"postgresql://ledger:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    @property
    def running(self):
        return self._process is not None

    def start(self):
        """Start the server, and wait until it takes connections."""
        log = (self.folder / "log").open("a")
        self._process = subprocess.Popen(
            as_plain_user(
                str(self._programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port),
                "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
                "-c", "deadlock_timeout=100ms",
            ),
            cwd=self.folder, stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        deadline_s = time.monotonic() + REASONABLE_S
        while True:
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline_s or self._process.poll() is not None:
                    raise AssertionError(self.log()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self, number=signal.SIGINT):
        """Stop the server: at once with SIGINT, like a crash with SIGQUIT."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(REASONABLE_S)
            self._process = None

    def kill(self):
        """Kill the server and its processes, as a machine that loses power."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._process.kill()
        self._process.wait(REASONABLE_S)
        self._process = None
        for pid in children:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in children:
            while Path(f"/proc/{pid}").exists() and _state(pid) != "Z":
                time.sleep(0.01)

    def execute(self, statement):
        """Run a statement in a transaction of its own. Return its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def locked(self):
        """Hold a lock that every insert must wait for."""
        with psycopg.connect(self.url) as connection:
            connection.execute("LOCK TABLE usage_calls IN ACCESS EXCLUSIVE MODE")
            yield

    def log(self):
        return (self.folder / "log").read_text("utf-8")

    def call_ids(self):
        return [row[0] for row in self.execute("SELECT call_id FROM usage_calls ORDER BY time_us")]

    def _run(self, program, *arguments):
        done = subprocess.run(
            as_plain_user(str(self._programs / program), *arguments),
            cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert 0 == done.returncode, done.stdout + done.stderr


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


@pytest.fixture(scope="session")
def server():
    # Not below pytest's own folder: that is closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="togetherchat-postgres-"))
    try:
        with reserved_address() as address:
            server = PostgresServer(folder, int(address.rpartition(":")[2]))
            server.start()
            yield server
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(server):
    """The server with empty tables of this version."""
    if not server.running:  # a test failed during an outage
        server.start()
    server.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    UsageDatabase.parse(server.url).migrate()
    return server


@pytest.fixture
def database(postgres):
    return UsageDatabase.parse(postgres.url)
