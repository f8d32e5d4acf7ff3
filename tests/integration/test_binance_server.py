"""The stand-in over real sockets: what a client sees of every answer and of every bad delivery."""

import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from local.binance.exchange import PATHS, REAL_ANSWERS
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


@pytest.mark.parametrize("product", PATHS)
def test_a_key_is_started_kept_alive_and_closed(server, session, product):
    url = server.url + PATHS[product]
    listen_key = session.post(url, timeout=SECONDS).json()["listenKey"]
    assert session.put(url, timeout=SECONDS).json().get("listenKey", listen_key) == listen_key
    assert server.exchange.live_key(ALICE, product) == listen_key
    assert session.delete(url, timeout=SECONDS).json() == {}
    answer = session.put(url, timeout=SECONDS)
    assert (answer.status_code, answer.content) == (400, REAL_ANSWERS["listen_key_not_found"].body)


@pytest.mark.parametrize("name", REAL_ANSWERS)
def test_real_answers_arrive_as_they_are(server, session, name):
    real = REAL_ANSWERS[name]
    server.exchange.fault(answer=real)
    answer = session.put(server.url + USDM, timeout=SECONDS)
    assert (answer.status_code, answer.content) == (real.status, real.body)
    assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "1"


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


def test_what_is_not_http_gets_no_answer(server):
    with raw(server, "hello\r\n\r\n") as connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""


def test_many_clients_are_served_at_once(server):
    def post(_):
        with requests.post(server.url + USDM, headers=HEADERS, timeout=SECONDS) as answer:
            return answer.json()["listenKey"]

    with ThreadPoolExecutor(32) as pool:
        assert len(set(pool.map(post, range(200)))) == 1
    assert server.exchange.count == 200


def test_a_delayed_answer_still_arrives(server, session):
    server.exchange.fault(status=503, delay=0.02)
    assert session.put(server.url + USDM, timeout=SECONDS).status_code == 503


def test_a_hanging_request_is_never_answered(server, session):
    server.exchange.fault("hang")
    with pytest.raises(requests.ReadTimeout):
        session.post(server.url + USDM, timeout=(5, 0.1))


def test_a_dripped_answer_arrives_whole_in_the_end(server, session):
    listen_key = session.post(server.url + USDM, timeout=SECONDS).json()["listenKey"]
    server.exchange.fault("drip", delay=0.0001)
    assert session.put(server.url + USDM, timeout=SECONDS).json() == {"listenKey": listen_key}


def test_a_dripped_answer_comes_one_byte_at_a_time(server):
    server.exchange.fault("drip", delay=1000)
    with raw(server) as connection:
        assert connection.recv(4096) == b"H"


def test_a_reset_is_a_reset_and_not_an_end(server):
    server.exchange.fault("reset")
    with raw(server) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_requests_sees_a_reset_as_a_connection_error(server, session):
    server.exchange.fault("reset", times=1)
    with pytest.raises(requests.ConnectionError):
        session.post(server.url + USDM, timeout=SECONDS)
    assert session.post(server.url + USDM, timeout=SECONDS).status_code == 200


@pytest.mark.parametrize("name", ["extended", "empty"])
def test_a_truncated_answer_ends_before_its_length(server, session, name):
    server.exchange.fault("truncate", answer=REAL_ANSWERS[name], times=1)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.put(server.url + USDM, timeout=SECONDS)
    assert session.post(server.url + USDM, timeout=SECONDS).status_code == 200


def test_a_truncated_answer_without_a_body_promises_one(server, session):
    server.exchange.fault("truncate", status=502)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.put(server.url + USDM, timeout=SECONDS)


def test_a_redirect_leads_to_where_it_says(server, session):
    with BinanceServer() as other:
        server.exchange.fault("redirect", headers={"Location": other.url + USDM})
        answer = session.put(server.url + USDM, timeout=SECONDS, allow_redirects=False)
        assert (answer.status_code, other.exchange.count) == (307, 0)
        assert session.put(server.url + USDM, timeout=SECONDS).status_code == 401
        assert other.exchange.requests[0].method == "PUT"


def test_after_stop_connections_are_refused(server):
    server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        raw(server)


def test_stop_closes_kept_alive_connections(server, session):
    session.put(server.url + USDM, timeout=SECONDS)
    server.stop()
    with pytest.raises(requests.ConnectionError):
        session.put(server.url + USDM, timeout=SECONDS)
    assert server.exchange.count == 1


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


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def certificate(tls):
    """The file of the certificate that `tls_server` shows."""
    return str(tls[1])


@pytest.fixture
def tls_server(tls):
    with BinanceServer(ssl_context=tls[0]) as server:
        server.exchange.add_account(ALICE)
        yield server


def test_https_works_for_who_trusts_the_certificate(tls_server, session, certificate):
    session.verify = certificate
    assert tls_server.url.startswith("https://")
    assert session.post(tls_server.url + USDM, timeout=SECONDS).status_code == 200
    tls_server.exchange.fault("reset", times=1)
    with pytest.raises(requests.ConnectionError):
        session.put(tls_server.url + USDM, timeout=SECONDS)
    assert session.put(tls_server.url + USDM, timeout=SECONDS).status_code == 200


def test_https_is_refused_by_who_does_not_trust_the_certificate(tls_server, session):
    with pytest.raises(requests.exceptions.SSLError):
        session.post(tls_server.url + USDM, timeout=SECONDS)
    assert tls_server.exchange.count == 0


def test_stop_ends_https_connections_too(tls_server, session, certificate):
    session.verify = certificate
    session.post(tls_server.url + USDM, timeout=SECONDS)
    tls_server.stop()
    assert not tls_server._server.connections


def test_a_client_that_never_shakes_hands_does_not_block_others(tls_server, session, certificate):
    session.verify = certificate
    with socket.create_connection(("127.0.0.1", tls_server.port), timeout=SECONDS):
        assert session.post(tls_server.url + USDM, timeout=SECONDS).status_code == 200


def test_a_request_that_was_cut_off_in_its_headers_is_none() -> None:
    with BinanceServer() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"PUT /fapi/v1/listenKey HTTP/1.1\r\nHost: x\r\nX-MBX-AP")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
        assert server.exchange.count == 0
