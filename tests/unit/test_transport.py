"""The adapter: one TLS context for all connections, made once."""

import ssl
from pathlib import Path

import certifi
import pytest
import requests

from listenkeys.binance.transport import BoundedAdapter, tls_context
from listenkeys.timing import Timeouts


def prepared(url: str) -> requests.PreparedRequest:
    return requests.Request("PUT", url).prepare()


@pytest.mark.parametrize("proxies", [{}, {"https": "http://127.0.0.1:9"}], ids=["direct", "proxy"])
def test_every_connection_uses_the_one_context(proxies: dict[str, str]) -> None:
    context = tls_context()
    adapter = BoundedAdapter(Timeouts(), 4, context)
    request = prepared("https://fapi.binance.com/fapi/v1/listenKey")

    pool = adapter.get_connection_with_tls_context(request, True, proxies=proxies)
    connections = [pool._new_conn(), pool._new_conn()]

    assert [connection.ssl_context for connection in connections] == [context, context]
    assert not any(connection.ca_certs or connection.ca_cert_dir for connection in connections)


def test_the_context_verifies_names_and_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bundle in ("", certifi.where(), str(tmp_path)):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        context = tls_context()
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
