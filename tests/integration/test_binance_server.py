"""The stand-in over real sockets: HTTP, bad deliveries, and an end that waits for nobody."""

import socket
import threading

import pytest
import requests

from local.binance.exchange import PATHS
from local.binance.server import BinanceServer
from tests.certificates import self_signed
from tests.waiting import SECONDS

ALICE = "alice" * 12
USDM = PATHS["usdm"]
HEADERS = {"X-MBX-APIKEY": ALICE}


@pytest.fixture
def server():
    with BinanceServer() as server:
        server.exchange.add_account(ALICE)
        yield server


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False
        session.headers.update(HEADERS)
        yield session


def raw(server, request=f"PUT {USDM} HTTP/1.1\r\nX-MBX-APIKEY: {ALICE}\r\n\r\n"):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
    connection.sendall(request.encode())
    return connection


def test_one_connection_serves_many_requests_with_bodies_and_queries(server, session):
    url = server.url + USDM
    for _ in range(3):
        answer = session.post(url, data={"listenKey": "x" * 64}, params={"a": "1"}, timeout=SECONDS)
        assert answer.status_code == 200
        assert session.get(f"{server.url}/fapi/v1/ping", timeout=SECONDS).json() == {}
        assert session.head(f"{server.url}/fapi/v1/time", timeout=SECONDS).status_code == 200
        assert session.put(server.url + "/nowhere", timeout=SECONDS).status_code == 404
    assert len(server._server.connections) == 1


@pytest.mark.parametrize(
    "request_text",
    [
        f"PUT {USDM} HTTP/1.0\r\n\r\n",
        f"PUT {USDM} HTTP/1.1\r\nConnection: Close\r\n\r\n",
        f"PUT {USDM} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["http 1.0", "connection close", "chunked body"],
)
def test_the_connection_ends_after_the_last_answer(server, request_text):
    with raw(server, request_text) as connection, connection.makefile("rb") as stream:
        assert stream.read().startswith(b"HTTP/1.1 401 Unauthorized\r\n")


@pytest.mark.parametrize(
    "fields",
    [{"kind": "hang"}, {"kind": "drip", "delay": 1000}, {"kind": "answer", "delay": 1000}],
    ids=["hang", "drip", "delay"],
)
def test_stop_ends_answers_under_way(server, fields):
    arrived = threading.Event()
    handle = server.exchange.handle

    def handle_and_tell(*arguments):
        answer = handle(*arguments)
        arrived.set()
        return answer

    server.exchange.handle = handle_and_tell
    server.exchange.fault(**fields)
    with raw(server) as connection, connection.makefile("rb") as stream:
        assert arrived.wait(SECONDS)
        server.stop()
        assert stream.read() in (b"", b"H")
    assert not server._server.connections


def test_it_listens_on_the_loopback_only(server):
    assert server._server.server_address[0] == "127.0.0.1"


def test_https_waits_for_no_handshake_and_ends_with_the_server(session, tmp_path):
    context, certificate = self_signed(tmp_path)
    with BinanceServer(ssl_context=context) as server:
        server.exchange.add_account(ALICE)
        with pytest.raises(requests.exceptions.SSLError):
            session.post(server.url + USDM, timeout=SECONDS)
        session.verify = str(certificate)
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS):
            assert session.post(server.url + USDM, timeout=SECONDS).status_code == 200
        server.stop()
        assert not server._server.connections


def test_a_request_that_was_cut_off_in_its_headers_is_none() -> None:
    with BinanceServer() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"PUT /fapi/v1/listenKey HTTP/1.1\r\nHost: x\r\nX-MBX-AP")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
        assert server.exchange.count == 0
