"""The port that workers share: who may have it, who may not, and how one of them lets go of it."""

import socket

import pytest

from togetherchat_server.supervisor.listening import stop_listening
from togetherchat_server.supervisor.port_reservation import PortReservation

HERE = "127.0.0.1"


@pytest.fixture
def reserve():
    """Reservations that are given up after the test."""
    made = []

    def make(address):
        made.append(PortReservation(address))
        return made[-1]

    yield make
    for reservation in made:
        reservation.close()


def listening(port=0, *, shared):
    """A server as gRPC opens it: alone, or as one of several workers."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        server.bind((HERE, port))
        server.listen()
    except OSError:
        server.close()
        raise
    return server


def port_of(address):
    return int(address.rpartition(":")[2])


def test_a_free_port_becomes_a_number_that_workers_can_share(reserve):
    """Port 0 is chosen once, for all of them, and for those that come later."""
    address = reserve(f"{HERE}:0").address

    with listening(port_of(address), shared=True), listening(port_of(address), shared=True) as second:
        assert port_of(address) == second.getsockname()[1] != 0


def test_a_reservation_is_noticed_by_the_next(reserve):
    """A second supervisor is told so, even while no worker listens yet."""
    address = reserve(f"{HERE}:0").address

    with pytest.raises(OSError, match=f"^.*{address}: Address already in use$"):
        reserve(address)


@pytest.mark.parametrize("shared", [False, True])
def test_a_server_at_the_address_is_noticed(reserve, shared):
    """Whatever options it listens with: it would take half of the calls."""
    with listening(shared=shared) as server, pytest.raises(OSError, match="in use"):
        reserve(f"{HERE}:{server.getsockname()[1]}")


def test_an_orphaned_worker_is_noticed(reserve):
    """The supervisor is gone, one of its workers still listens."""
    before = reserve(f"{HERE}:0")
    with listening(port_of(before.address), shared=True):
        before.close()

        with pytest.raises(OSError, match="in use"):
            reserve(before.address)


@pytest.mark.parametrize("shared", [False, True])
def test_what_a_server_left_behind_is_not_in_the_way(reserve, shared):
    """Connections that a server has closed linger for a minute: a restart does not wait for them."""
    with listening(shared=shared) as server:
        port = server.getsockname()[1]
        with socket.create_connection((HERE, port)) as caller:
            accepted, _ = server.accept()
            accepted.close()
            assert b"" == caller.recv(1)

    address = reserve(f"{HERE}:{port}").address
    with listening(port, shared=True):
        assert f"{HERE}:{port}" == address


def test_a_reservation_that_ended_is_free(reserve):
    """Nothing lingers."""
    first = reserve(f"{HERE}:0")
    first.close()

    assert first.address == reserve(first.address).address


def test_a_name_is_held_at_all_its_addresses(reserve):
    """localhost may be two, and a stranger at either is one too many."""
    address = reserve("localhost:0").address

    assert address.startswith("localhost:")
    with pytest.raises(OSError, match="in use"):
        listening(port_of(address), shared=False)


@pytest.mark.parametrize(
    ("address", "said"), [("no-such-host.invalid:0", "no-such-host"), ("192.0.2.1:0", "192.0.2.1")]
)
def test_an_address_that_is_not_ours_is_named(reserve, address, said):
    """One line for the start to fail with."""
    with pytest.raises(OSError, match=said) as caught:
        reserve(address)

    assert "\n" not in str(caught.value)


def test_who_stops_listening_keeps_its_connections():
    """New callers are sent elsewhere by the kernel; those who are there are served on."""
    with listening(shared=True) as leaving:
        port = leaving.getsockname()[1]
        with socket.create_connection((HERE, port)) as caller:
            accepted, _ = leaving.accept()
            assert 1 == stop_listening(port)
            accepted.sendall(b"served")

            assert b"served" == caller.recv(6)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HERE, port))
            accepted.close()


def test_other_ports_go_on_listening():
    """Only the port that is named."""
    with listening(shared=True) as leaving, listening(shared=True) as staying:
        stop_listening(leaving.getsockname()[1])

        socket.create_connection((HERE, staying.getsockname()[1])).close()
        assert 0 == stop_listening(leaving.getsockname()[1])
