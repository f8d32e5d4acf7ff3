"""The adapter's pools: one for a host, until its connections are to be forgotten."""

import requests

from listenkeys.binance.transport import BoundedAdapter, Timeouts


def prepared(url: str) -> requests.PreparedRequest:
    return requests.Request("PUT", url).prepare()


def test_a_host_has_one_pool() -> None:
    adapter = BoundedAdapter(Timeouts(), pool_size=4)
    first, other = (
        prepared("https://fapi.binance.com/fapi/v1/listenKey"),
        prepared("https://dapi.binance.com/x"),
    )
    pool = adapter.get_connection_with_tls_context(first, True)
    assert adapter.get_connection_with_tls_context(prepared(str(first.url)), True) is pool
    assert adapter.get_connection_with_tls_context(other, True).host == "dapi.binance.com"


def test_a_forgotten_pool_is_not_used_again() -> None:
    adapter = BoundedAdapter(Timeouts(), pool_size=4)
    request = prepared("https://fapi.binance.com/fapi/v1/listenKey")
    before = adapter.get_connection_with_tls_context(request, True)
    adapter.forget_idle_connections()
    after = adapter.get_connection_with_tls_context(request, True)
    assert after is not before


def test_a_forgotten_pool_of_a_proxy_is_not_used_again() -> None:
    adapter = BoundedAdapter(Timeouts(), pool_size=4)
    request, proxies = prepared("http://fapi.binance.com/fapi/v1/listenKey"), {"http": "http://127.0.0.1:9"}
    before = adapter.get_connection_with_tls_context(request, True, proxies=proxies)
    assert before.host == "127.0.0.1"
    adapter.forget_idle_connections()
    assert adapter.get_connection_with_tls_context(request, True, proxies=proxies) is not before
