"""tinyproxy and Squid as egress proxies, and a service behind them.

Both require a user and a password, tunnel to the port of the provider alone, and do not connect to
`forbidden.example`. Squid also knows the address of `provider.example`, which no resolver does.
"""

import os
import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from grpc import aio

from proxies.programs import Program, program
from support.command import running_command
from support.ports import reserved_address
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc

USER = "service"
PASSWORDS = {"tinyproxy": "canary7", "squid": "p@ss-canary"}
"""tinyproxy reads letters and digits only."""
NAME = "provider.example"
FORBIDDEN = "forbidden.example"
UNPRIVILEGED = "nobody"
"""Squid refuses to serve as root. It changes to this user, who must be able to read its files."""

TINYPROXY = """
Listen 127.0.0.1
Port {port}
Timeout 600
MaxClients 50
LogLevel Info
BasicAuth {user} {password}
ConnectPort {provider_port}
Filter "{folder}/filter"
FilterURLs Off
"""

SQUID = """
http_port 127.0.0.1:{port}
cache_effective_user {effective_user}
auth_param basic program /bin/sh {folder}/check-password
auth_param basic children 1
acl authenticated proxy_auth REQUIRED
acl provider_port port {provider_port}
acl forbidden dstdomain {forbidden}
http_access deny !provider_port
http_access deny forbidden
http_access allow authenticated
http_access deny all
hosts_file {folder}/hosts
cache deny all
cache_mem 1 MB
max_filedescriptors 1024
shutdown_lifetime 1 second
pinger_enable off
unlinkd_program /bin/true
access_log none
cache_log stdio:/dev/stderr
cache_store_log none
netdb_filename none
pid_filename none
coredump_dir {folder}
mime_table {data}/mime.conf
error_directory {data}/errors/templates
icon_directory {data}/icons
visible_hostname proxy.example
"""
CHECK_PASSWORD = """
while read -r line; do
    if [ "$line" = "{user} {password}" ]; then echo OK; else echo ERR; fi
done
"""


@dataclass(frozen=True, kw_only=True)
class EgressProxy:
    """A proxy that can be killed, and started again at the same port."""

    name: str
    port: int
    program: Program
    log: Path

    def url(self, password=None):
        password = quote(PASSWORDS[self.name] if password is None else password)
        return f"http://{USER}:{password}@127.0.0.1:{self.port}"


def _readable_folder():
    """Make a folder that the unprivileged user can read; pytest's are its own."""
    folder = Path(tempfile.mkdtemp(prefix="egress-proxy-"))
    folder.chmod(0o755)
    return folder


@asynccontextmanager
async def running_egress_proxy(name, provider_port):
    """Run a proxy that connects to this port alone."""
    folder = _readable_folder()
    try:
        with reserved_address() as address:
            port = int(address.rpartition(":")[2])
            values = {
                "port": port,
                "provider_port": provider_port,
                "folder": folder,
                "user": USER,
                "password": PASSWORDS[name],
                "forbidden": FORBIDDEN,
                "data": os.environ["SQUID_DATA"],
                "effective_user": UNPRIVILEGED,
            }
            (folder / "filter").write_text(FORBIDDEN.replace(".", "\\.") + "\n", encoding="utf-8")
            (folder / "hosts").write_text(f"127.0.0.1 {NAME} {FORBIDDEN} localhost\n", encoding="utf-8")
            (folder / "check-password").write_text(CHECK_PASSWORD.format(**values), encoding="utf-8")
            file, log = folder / "configuration", folder / "log"
            text = {"tinyproxy": TINYPROXY, "squid": SQUID}[name].format(**values)
            file.write_text(text, encoding="utf-8")
            flags = {"tinyproxy": ("-d", "-c"), "squid": ("-N", "-f")}[name]
            started = Program((program(name), *flags, str(file)), address, log)
            try:
                await started.start()
                yield EgressProxy(name=name, port=port, program=started, log=log)
            finally:
                await started.kill()
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running service, a stub for it, its first line and its log."""

    chat: service_grpc.ChatServiceStub
    banner: str
    command: object


@asynccontextmanager
async def running_service(base_url, *arguments, environment):
    """Run the service with a provider and no retries."""
    environment = {"TOGETHER_API_KEY": "tgp_v1_canary", "TOGETHER_BASE_URL": base_url, **environment}
    listeners = ("--grpc-listen", "127.0.0.1:0", "--admin-listen", "off", "--max-retries", "0")
    async with running_command(*listeners, *arguments, environment=environment) as command:
        banner = await command.wait_for_line(" SERVING: ")
        async with aio.insecure_channel(
            banner.partition("gRPC on ")[2].partition(",")[0], options=[("grpc.enable_retries", 0)]
        ) as channel:
            yield Service(chat=service_grpc.ChatServiceStub(channel), banner=banner, command=command)
