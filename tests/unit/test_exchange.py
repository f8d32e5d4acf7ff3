"""The stand-in's engine against what Binance documents, with a clock that only moves when told.

Its faults on demand and its websockets have no tests here: those of the program and of the stream use each.
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from listenkeys.products import GROUP_WEIGHT
from local.binance.exchange import PATHS, REAL_ANSWERS, Exchange
from local.binance.limits import WEIGHT_LIMITS

START = 1_700_000_040.0  # the start of a minute: 1700000040 is a multiple of 60
ALICE = "alice" * 12
BOB = "bobby" * 12
USDM = PATHS["usdm"]
SYMBOLS = {"fapi": ["BTCUSDT"], "dapi": ["BTCUSD_PERP"], "eapi": ["BTC-261225-100000-C"]}
NOT_FOUND = 400, REAL_ANSWERS["listen_key_not_found"].body
MALFORMED = 401, REAL_ANSWERS["api_key_format"].body
UNKNOWN = 401, REAL_ANSWERS["invalid_api_key"].body.replace(b"203.0.113.7", b"127.0.0.1")


class Clock:
    def __init__(self):
        self.time = START

    def __call__(self):
        return self.time

    def advance(self, seconds):
        self.time += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def exchange(clock):
    exchange = Exchange(now=clock)
    exchange.add_account(ALICE)
    return exchange


def ask(exchange, method, path=USDM, api_key=ALICE):
    return exchange.handle(method, path, {"X-MBX-APIKEY": api_key})


def said(answer):
    return answer.status, answer.body


def start(exchange, product="usdm", api_key=ALICE):
    answer = ask(exchange, "POST", PATHS[product], api_key)
    assert answer.status == 200
    return json.loads(answer.body)["listenKey"]


@pytest.mark.parametrize("product", PATHS)
def test_post_creates_a_key_for_an_hour_and_extends_the_one_that_there_is(exchange, clock, product):
    listen_key = start(exchange, product)
    assert re.fullmatch("[A-Za-z0-9]{64}", listen_key)
    assert exchange.live_key(ALICE, product) == listen_key
    assert exchange.expires_at(ALICE, product) == START + 3600
    clock.advance(3599)
    again = json.loads(ask(exchange, "POST", PATHS[product]).body)
    expires_at = START + 3599 + 3600
    assert (again["listenKey"], exchange.expires_at(ALICE, product)) == (listen_key, expires_at)
    assert again.get("expiration") == (int(expires_at) * 1000 if product == "options" else None)
    clock.advance(3600)
    assert exchange.live_key(ALICE, product) is None
    assert start(exchange, product) != listen_key


def test_put_with_no_live_key_is_refused_with_1125(exchange, clock):
    assert said(ask(exchange, "PUT")) == NOT_FOUND
    start(exchange)
    clock.advance(3600)
    assert said(ask(exchange, "PUT")) == NOT_FOUND
    assert exchange.expires_at(ALICE, "usdm") is None


def test_delete_closes_the_key_once(exchange):
    start(exchange)
    assert said(ask(exchange, "DELETE")) == (200, b"{}")
    assert exchange.live_key(ALICE, "usdm") is None
    assert said(ask(exchange, "DELETE")) == NOT_FOUND


@pytest.mark.parametrize(
    ("product", "coinm_put_answers_key", "told"),
    [
        ("usdm", True, True),
        ("coinm", True, True),
        ("coinm", False, False),
        ("portfolio", True, False),
        ("options", True, False),
    ],
)
def test_put_extends_and_answers_in_the_shape_of_its_product(clock, product, coinm_put_answers_key, told):
    exchange = Exchange(now=clock, coinm_put_answers_key=coinm_put_answers_key)
    exchange.add_account(ALICE)
    listen_key = start(exchange, product)
    clock.advance(60)
    answer = ask(exchange, "PUT", PATHS[product])
    assert (answer.status, json.loads(answer.body)) == (200, {"listenKey": listen_key} if told else {})
    assert exchange.expires_at(ALICE, product) == START + 60 + 3600


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({}, MALFORMED),
        *(
            ({"X-MBX-APIKEY": api_key}, MALFORMED)
            for api_key in ("", "short", "has a space in it", "é" * 20, "x" * 129, "dash-dash-dash")
        ),
        ({"X-MBX-APIKEY": BOB}, UNKNOWN),
        ({"x-mBx-ApiKey": ALICE}, NOT_FOUND),
    ],
)
def test_an_api_key_is_refused_by_its_form_or_as_unknown(exchange, headers, answer):
    assert said(exchange.handle("PUT", USDM, headers)) == answer


def test_an_api_key_is_good_for_its_products_and_addresses(exchange):
    exchange.add_account(BOB, ["coinm"])
    assert ask(exchange, "POST", PATHS["coinm"], BOB).status == 200
    assert ask(exchange, "POST", USDM, BOB).status == 401
    exchange.restrict(ALICE, ["127.0.0.2"])
    assert exchange.handle("POST", USDM, {"X-MBX-APIKEY": ALICE}, "127.0.0.2").status == 200
    assert said(ask(exchange, "PUT")) == UNKNOWN
    exchange.restrict(ALICE, ["127.0.0.1"])
    exchange.revoke(ALICE)
    assert said(ask(exchange, "PUT")) == UNKNOWN
    exchange.add_account(ALICE)
    assert ask(exchange, "PUT").status == 200


def test_an_unknown_path_is_not_found_and_not_json(exchange):
    for path in ("/fapi/v1/nothing", "/api/v3/userDataStream", "nonsense", "/"):
        answer = ask(exchange, "PUT", path)
        assert (answer.status, answer.headers["Content-Type"], answer.body[:6]) == (
            404,
            "text/html",
            b"<html>",
        )
    answer = ask(exchange, "GET")
    assert (answer.status, json.loads(answer.body)["code"]) == (404, -5000)


@pytest.mark.parametrize(
    ("prefix", "limit"), [("api", 6000), ("fapi", 2400), ("dapi", 2400), ("papi", 6000), ("eapi", 400)]
)
def test_ping_time_and_exchange_info_need_no_api_key(exchange, prefix, limit):
    def get(name):
        answer = exchange.handle("GET", f"/{prefix}/v1/{name}", {})
        assert answer.status == 200
        return json.loads(answer.body)

    assert get("ping") == {}
    assert get("time") == {"serverTime": int(START) * 1000}
    info = get("exchangeInfo")
    assert info["rateLimits"][0]["limit"] == limit
    symbols = info.get("symbols", info.get("optionSymbols"))
    assert [symbol["symbol"] for symbol in symbols] == SYMBOLS.get(prefix, [])


def used(answer):
    return int(answer.headers["X-MBX-USED-WEIGHT-1M"])


def test_used_weight_is_counted_for_each_group_and_clock_minute(exchange, clock):
    minute = int(START // 60)
    assert [used(ask(exchange, "PUT")) for _ in range(3)] == [1, 2, 3]
    assert used(ask(exchange, "GET", "/fapi/v1/ping")) == 4
    assert used(ask(exchange, "PUT", PATHS["coinm"])) == 5, "COIN-M shares the futures' limit"
    assert used(ask(exchange, "PUT", PATHS["portfolio"])) == 1
    assert used(ask(exchange, "PUT", PATHS["options"])) == 1
    clock.advance(60)
    assert used(ask(exchange, "PUT")) == 1
    assert exchange.weight("futures") == {minute: 5, minute + 1: 1}
    assert exchange.weight("options") == {minute: 1}


def limited(clock):
    exchange = Exchange(now=clock, weight_limits={"futures": 10})
    exchange.add_account(ALICE)
    for _ in range(10):
        assert ask(exchange, "POST").status == 200
    return exchange


def test_over_its_limit_a_group_gets_429_until_the_minute_ends(clock):
    clock.advance(17.5)
    exchange = limited(clock)
    assert exchange.weight_limits == {"futures": 10, "portfolio": 6000, "options": 400, "spot": 6000}
    expires_at = exchange.expires_at(ALICE, "usdm")
    clock.advance(10)
    answer = ask(exchange, "PUT")
    assert (answer.status, json.loads(answer.body)["code"], used(answer)) == (429, -1003, 11)
    assert b"limit is 10 requests" in answer.body
    assert answer.headers["Retry-After"] == "33"
    assert exchange.expires_at(ALICE, "usdm") == expires_at
    assert ask(exchange, "POST", PATHS["coinm"]).status == 429
    assert ask(exchange, "POST", PATHS["portfolio"]).status == 200
    clock.advance(33)
    assert ask(exchange, "PUT").status == 200


def ban(exchange):
    for _ in range(20):
        answer = ask(exchange, "PUT")
        if answer.status == 418:
            return answer
    raise AssertionError("never banned")


def test_going_on_after_429_is_a_ban_of_two_minutes(clock):
    exchange = limited(clock)
    answer = ban(exchange)
    until = START + 120
    assert f"IP banned until {int(until) * 1000}." in json.loads(answer.body)["msg"]
    assert json.loads(answer.body)["code"] == -1003
    assert answer.headers["Retry-After"] == "120"
    assert [request.status for request in exchange.requests[10:]] == [429] * 5 + [418]
    clock.advance(119)
    assert ask(exchange, "PUT").headers["Retry-After"] == "1"
    clock.advance(1)
    assert ask(exchange, "PUT").status == 200


def test_a_ban_doubles_each_time_up_to_three_days(clock):
    exchange = limited(clock)
    lengths = []
    for _ in range(14):
        for _ in range(10):
            ask(exchange, "PUT")
        lengths.append(int(ban(exchange).headers["Retry-After"]))
        clock.advance(lengths[-1])
    assert lengths[:4] == [120, 240, 480, 960]
    assert lengths[-1] == 3 * 86400


def test_429s_of_different_minutes_do_not_add_up_to_a_ban(clock):
    exchange = limited(clock)
    for _ in range(3):
        assert [ask(exchange, "PUT").status for _ in range(4)] == [429] * 4
        clock.advance(60)
        assert [ask(exchange, "PUT").status for _ in range(10)] == [200] * 10


def test_many_threads_get_one_key_and_every_request_is_counted(exchange):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(exchange, "POST"), range(500)))
    assert len({answer.body for answer in answers}) == 1
    assert sorted(map(used, answers)) == list(range(1, 501))
    assert exchange.count == len(exchange.requests) == 500


@pytest.mark.parametrize("close", ["delete", "rotate"])
def test_a_listener_is_told_once_of_an_expired_key_and_of_no_closed_one(exchange, clock, close):
    def listen():
        heard = []
        exchange.listen(start(exchange), {"usdm"}, lambda _, event: heard.append(event["e"]))
        return heard

    first, second = listen(), listen()
    clock.advance(3600)
    third = listen()  # a new key does not hide that the old one has expired
    assert first == second == ["listenKeyExpired"]
    ask(exchange, "DELETE") if close == "delete" else exchange.rotate(ALICE, "usdm")
    clock.advance(3600)
    exchange.notice_expired()
    assert (first, third) == (["listenKeyExpired"], [])


def test_the_program_knows_the_limits_that_the_stand_in_enforces() -> None:
    assert (
        GROUP_WEIGHT.items()
        >= {group: WEIGHT_LIMITS[group] for group in WEIGHT_LIMITS if group != "spot"}.items()
    )
