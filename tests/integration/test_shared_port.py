"""The port that workers share: its reservation, and how one worker stops listening on it."""

import socket

import pytest

from support.app import running_app
from support.http_client import head, raw_caller
from support.waiting import eventually
from togetherchat_server.supervisor.listener_shutdown import stop_listening
from togetherchat_server.supervisor.port_reservation import PortReservation

HOST = "127.0.0.1"


@pytest.fixture
def reserve():
    """A function that reserves an address until the end of the test."""
    reservations = []

    def make(address):
        reservations.append(PortReservation(address))
        return reservations[-1]

    yield make
    for reservation in reservations:
        reservation.close()


def listening(port=0, *, shared):
    """Listen as gRPC does: alone, or as one of several workers (`shared`)."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        server.bind((HOST, port))
        server.listen()
    except OSError:
        server.close()
        raise
    return server


def port_of(address):
    return int(address.rpartition(":")[2])


def test_port_0_becomes_a_number_that_workers_share(reserve):
    """The port is chosen once, for all workers and for their replacements."""
    address = reserve(f"{HOST}:0").address

    with listening(port_of(address), shared=True), listening(port_of(address), shared=True) as second:
        assert port_of(address) == second.getsockname()[1] != 0


def test_a_second_reservation_of_the_address_fails(reserve):
    """Even while no worker listens yet."""
    address = reserve(f"{HOST}:0").address

    with pytest.raises(OSError, match=f"^.*{address}: Address already in use$"):
        reserve(address)


@pytest.mark.parametrize("shared", [False, True])
def test_a_reservation_fails_if_a_server_listens(reserve, shared):
    """Whatever its socket options: it would receive half of the connections."""
    with listening(shared=shared) as server, pytest.raises(OSError, match="in use"):
        reserve(f"{HOST}:{server.getsockname()[1]}")


def test_a_reservation_fails_while_an_orphaned_worker_listens(reserve):
    """Its supervisor has exited."""
    before = reserve(f"{HOST}:0")
    with listening(port_of(before.address), shared=True):
        before.close()

        with pytest.raises(OSError, match="in use"):
            reserve(before.address)


@pytest.mark.parametrize("shared", [False, True])
def test_connections_in_time_wait_do_not_block_a_reservation(reserve, shared):
    """They last for a minute after a server has closed them, and a restart does not wait."""
    with listening(shared=shared) as server:
        port = server.getsockname()[1]
        with socket.create_connection((HOST, port)) as client:
            accepted, _ = server.accept()
            accepted.close()
            assert b"" == client.recv(1)

    address = reserve(f"{HOST}:{port}").address
    with listening(port, shared=True):
        assert f"{HOST}:{port}" == address


def test_a_closed_reservation_frees_the_address(reserve):
    """The address can be reserved again at once."""
    first = reserve(f"{HOST}:0")
    first.close()

    assert first.address == reserve(first.address).address


def test_a_name_is_reserved_at_all_its_addresses(reserve):
    """localhost may have two, and another server may listen at neither."""
    address = reserve("localhost:0").address

    assert address.startswith("localhost:")
    with pytest.raises(OSError, match="in use"):
        listening(port_of(address), shared=False)


@pytest.mark.parametrize(
    ("address", "name"), [("no-such-host.invalid:0", "no-such-host"), ("192.0.2.1:0", "192.0.2.1")]
)
def test_an_address_of_another_machine_is_named(reserve, address, name):
    """The error is one line."""
    with pytest.raises(OSError, match=name) as caught:
        reserve(address)

    assert "\n" not in str(caught.value)


def test_a_socket_that_stops_listening_keeps_its_connections():
    """The kernel refuses new connections to it. Data still flows on the accepted ones."""
    with listening(shared=True) as stopping:
        port = stopping.getsockname()[1]
        with socket.create_connection((HOST, port)) as client:
            accepted, _ = stopping.accept()
            assert 1 == stop_listening(port)
            accepted.sendall(b"served")

            assert b"served" == client.recv(6)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, port))
            accepted.close()


def test_other_ports_keep_listening():
    """Only the named port stops."""
    with listening(shared=True) as stopping, listening(shared=True) as staying:
        stop_listening(stopping.getsockname()[1])

        socket.create_connection((HOST, staying.getsockname()[1])).close()
        assert 0 == stop_listening(stopping.getsockname()[1])


async def test_http_stops_listening_and_keeps_its_connections():
    """A connection from before is served. A new one is refused."""
    async with running_app(http_listen=f"{HOST}:0") as app:
        address = app.addresses.http
        async with raw_caller(address) as caller:
            await eventually(lambda: app.http_server.connections == 1)
            app.http_server.stop_listening()
            await caller.send(head(method="GET", path="/v1/models"))

            assert (await caller.read_head()).startswith(b"HTTP/1.1 200 ")
            with pytest.raises(ConnectionRefusedError):
                async with raw_caller(address):
                    pass
