"""The stand-in's engine against what Binance documents, with a clock that only moves when told."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.binance.exchange import PATHS, REAL_ANSWERS, Answer, Exchange

START = 1_700_000_040.0  # the start of a minute: 1700000040 is a multiple of 60
ALICE = "alice" * 12
BOB = "bobby" * 12
USDM = PATHS["usdm"]
PING = "/fapi/v1/ping"
SYMBOLS = {"fapi": ["BTCUSDT"], "dapi": ["BTCUSD_PERP"], "eapi": ["BTC-261225-100000-C"]}
NOT_FOUND = REAL_ANSWERS["listen_key_not_found"].body
UNKNOWN = REAL_ANSWERS["invalid_api_key"].body.replace(b"203.0.113.7", b"127.0.0.1")


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
def test_post_creates_a_key_of_64_letters_and_digits_for_an_hour(exchange, product):
    listen_key = start(exchange, product)
    assert re.fullmatch("[A-Za-z0-9]{64}", listen_key)
    assert exchange.live_key(ALICE, product) == listen_key
    assert exchange.expires_at(ALICE, product) == START + 3600


def test_post_returns_the_active_key_and_extends_it(exchange, clock):
    listen_key = start(exchange)
    clock.advance(1800)
    assert start(exchange) == listen_key
    assert exchange.expires_at(ALICE, "usdm") == START + 1800 + 3600


def test_put_extends_the_active_key_by_an_hour(exchange, clock):
    listen_key = start(exchange)
    clock.advance(3599)
    answer = ask(exchange, "PUT")
    assert (answer.status, json.loads(answer.body)) == (200, {"listenKey": listen_key})
    assert exchange.expires_at(ALICE, "usdm") == START + 3599 + 3600


def test_put_with_no_live_key_is_refused_with_1125(exchange, clock):
    for make_it_so in (lambda: None, lambda: start(exchange) and clock.advance(3600)):
        make_it_so()
        answer = ask(exchange, "PUT")
        assert said(answer) == (400, NOT_FOUND)
        assert exchange.live_key(ALICE, "usdm") is None
        assert exchange.expires_at(ALICE, "usdm") is None


def test_post_after_expiry_creates_another_key(exchange, clock):
    first = start(exchange)
    clock.advance(3600)
    assert start(exchange) != first


def test_delete_closes_the_key_once(exchange):
    start(exchange)
    assert said(ask(exchange, "DELETE")) == (200, b"{}")
    assert exchange.live_key(ALICE, "usdm") is None
    assert said(ask(exchange, "DELETE")) == (400, NOT_FOUND)


def test_the_lease_can_be_shorter(clock):
    exchange = Exchange(now=clock, lease_seconds=6)
    exchange.add_account(ALICE)
    start(exchange)
    clock.advance(6)
    assert exchange.live_key(ALICE, "usdm") is None


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
def test_put_answers_in_the_shape_of_its_product(clock, product, coinm_put_answers_key, told):
    exchange = Exchange(now=clock, coinm_put_answers_key=coinm_put_answers_key)
    exchange.add_account(ALICE)
    listen_key = start(exchange, product)
    clock.advance(60)
    answer = ask(exchange, "PUT", PATHS[product])
    assert json.loads(answer.body) == ({"listenKey": listen_key} if told else {})
    assert exchange.expires_at(ALICE, product) == START + 60 + 3600


@pytest.mark.parametrize("product", PATHS)
def test_only_options_tells_the_expiration_on_post(exchange, product):
    answer = json.loads(ask(exchange, "POST", PATHS[product]).body)
    assert answer.get("expiration") == (int(START + 3600) * 1000 if product == "options" else None)


def test_products_and_accounts_have_keys_of_their_own(exchange):
    exchange.add_account(BOB)
    keys = {start(exchange, product, api_key) for product in PATHS for api_key in (ALICE, BOB)}
    assert len(keys) == 2 * len(PATHS)


def test_the_same_seed_gives_the_same_keys(clock):
    def first_key(seed):
        exchange = Exchange(now=clock, seed=seed)
        exchange.add_account(ALICE)
        return start(exchange)

    assert first_key(7) == first_key(7) != first_key(8)


@pytest.mark.parametrize("api_key", ["", "short", "has a space in it", "é" * 20, "x" * 129, "dash-dash-dash"])
def test_a_malformed_api_key_is_refused_with_2014(exchange, api_key):
    assert said(ask(exchange, "PUT", api_key=api_key)) == (401, REAL_ANSWERS["api_key_format"].body)


def test_a_missing_api_key_is_refused_with_2014(exchange):
    assert said(exchange.handle("PUT", USDM, {})) == (401, REAL_ANSWERS["api_key_format"].body)


def test_an_unknown_api_key_is_refused_with_2015_and_the_address_it_came_from(exchange):
    assert said(ask(exchange, "PUT", api_key=BOB)) == (401, UNKNOWN)


def test_an_api_key_is_refused_for_products_it_was_not_added_for(exchange):
    exchange.add_account(BOB, ["coinm"])
    assert ask(exchange, "POST", PATHS["coinm"], BOB).status == 200
    assert ask(exchange, "POST", USDM, BOB).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/sapi/v1/capital/config/getall",
        "/sapi/v1/margin/allPairs",
        "/sapi/v1/margin/isolated/allPairs",
        "/fapi/v1/leverageBracket",
        "/fapi/v3/positionRisk",
        "/papi/v1/um/positionRisk",
    ],
)
def test_signed_reads_of_an_account_without_anything_answer_empty_lists_to_its_api_key_only(exchange, path):
    url = f"{path}?timestamp=1&signature=2"
    assert said(exchange.handle("GET", url, {"X-MBX-APIKEY": ALICE})) == (200, b"[]")
    assert said(exchange.handle("GET", url, {"X-MBX-APIKEY": BOB})) == (401, UNKNOWN)
    assert exchange.handle("POST", path, {"X-MBX-APIKEY": ALICE}).status == 404


def test_a_restricted_api_key_is_refused_from_another_address(exchange):
    exchange.restrict(ALICE, ["127.0.0.2"])
    headers = {"X-MBX-APIKEY": ALICE}
    assert exchange.handle("POST", USDM, headers, "127.0.0.2").status == 200
    assert said(exchange.handle("PUT", USDM, headers)) == (401, UNKNOWN)


def test_a_revoked_api_key_is_refused_until_it_is_added_again(exchange):
    start(exchange)
    exchange.revoke(ALICE)
    assert said(ask(exchange, "PUT")) == (401, UNKNOWN)
    exchange.add_account(ALICE)
    assert ask(exchange, "PUT").status == 200


def test_the_api_key_header_is_found_in_any_case(exchange):
    assert exchange.handle("POST", USDM, {"x-mBx-ApiKey": ALICE}).status == 200


def test_an_unknown_path_is_not_found_and_not_json(exchange):
    for path in ("/fapi/v1/nothing", "/api/v3/userDataStream", "nonsense", "/"):
        answer = ask(exchange, "PUT", path)
        assert answer.status == 404
        assert answer.headers["Content-Type"] == "text/html"
        assert answer.body.startswith(b"<html>")


def test_a_method_the_path_does_not_know_is_refused(exchange):
    answer = ask(exchange, "GET")
    assert (answer.status, json.loads(answer.body)["code"]) == (404, -5000)


def test_the_query_counts_for_nothing(exchange):
    assert ask(exchange, "POST", USDM + "?listenKey=x").status == 200


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


def test_expire_forgets_the_key_now(exchange):
    start(exchange)
    exchange.expire(ALICE, "usdm")
    exchange.expire(ALICE, "usdm")
    assert said(ask(exchange, "PUT")) == (400, NOT_FOUND)


def test_rotate_is_seen_as_another_key_in_the_next_put(exchange):
    first = start(exchange)
    second = exchange.rotate(ALICE, "usdm")
    assert second != first
    assert json.loads(ask(exchange, "PUT").body) == {"listenKey": second}
    assert (exchange.is_listening(first), exchange.is_listening(second)) == (False, True)


def test_a_key_is_listening_until_it_expires(exchange, clock):
    listen_key = start(exchange)
    assert exchange.is_listening(listen_key)
    clock.advance(3600)
    assert not exchange.is_listening(listen_key)


def test_every_request_is_recorded_with_its_time_and_status(exchange, clock):
    ask(exchange, "PUT")
    clock.advance(5)
    ask(exchange, "POST")
    assert exchange.requests == [(START, "PUT", USDM, ALICE, 400), (START + 5, "POST", USDM, ALICE, 200)]
    exchange.requests.clear()
    ask(exchange, "PUT")
    assert (len(exchange.requests), exchange.count) == (1, 3)


def used(answer):
    return int(answer.headers["X-MBX-USED-WEIGHT-1M"])


def test_used_weight_is_reported_per_group_and_starts_again_every_minute(exchange, clock):
    assert [used(ask(exchange, "PUT")) for _ in range(3)] == [1, 2, 3]
    assert used(ask(exchange, "GET", PING)) == 4
    assert used(ask(exchange, "PUT", PATHS["coinm"])) == 5, "COIN-M shares the futures' limit"
    assert used(ask(exchange, "PUT", PATHS["portfolio"])) == 1
    assert used(ask(exchange, "PUT", PATHS["options"])) == 1
    clock.advance(60)
    assert used(ask(exchange, "PUT")) == 1


def test_the_weight_of_every_minute_can_be_read_afterwards(exchange, clock):
    minute = int(START // 60)
    ask(exchange, "PUT")
    ask(exchange, "PUT", PATHS["coinm"])
    ask(exchange, "PUT", PATHS["options"])
    clock.advance(120)
    exchange.requests.clear()
    ask(exchange, "PUT")
    assert exchange.weight("futures") == {minute: 2, minute + 2: 1}
    assert exchange.weight("options") == {minute: 1}
    assert exchange.weight("portfolio") == {}


def test_each_group_has_its_own_limit(exchange):
    assert exchange.weight_limits == {"futures": 2400, "portfolio": 6000, "options": 400, "spot": 6000}
    exchange.weight_limits["options"] = 0
    refused = ask(exchange, "PUT", PATHS["options"])
    assert (refused.status, "limit is 0 requests" in refused.body.decode()) == (429, True)
    assert ask(exchange, "POST", PATHS["portfolio"]).status == 200


def limited(clock):
    exchange = Exchange(now=clock, weight_limits={"futures": 10})
    exchange.add_account(ALICE)
    for _ in range(10):
        assert ask(exchange, "POST").status == 200
    return exchange


def test_over_the_weight_limit_is_429_until_the_minute_ends(clock):
    clock.advance(17.5)
    exchange = limited(clock)
    answer = ask(exchange, "PUT")
    assert answer.status == 429
    assert json.loads(answer.body)["code"] == -1003
    assert answer.headers["Retry-After"] == "43"
    assert used(answer) == 11
    clock.advance(int(answer.headers["Retry-After"]))
    assert ask(exchange, "PUT").status == 200


def test_one_group_over_the_limit_leaves_the_others_alone(clock):
    exchange = limited(clock)
    assert ask(exchange, "PUT").status == 429
    assert ask(exchange, "POST", PATHS["coinm"]).status == 429
    assert ask(exchange, "POST", PATHS["portfolio"]).status == 200


def test_a_request_over_the_limit_has_no_effect(clock):
    exchange = limited(clock)
    clock.advance(30)
    ask(exchange, "PUT")
    assert exchange.expires_at(ALICE, "usdm") == START + 3600


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


@pytest.mark.parametrize("name", REAL_ANSWERS)
def test_every_real_answer_can_be_given_on_demand(exchange, name):
    real = REAL_ANSWERS[name]
    exchange.fault(answer=real)
    answer = ask(exchange, "POST")
    assert said(answer) == said(real)
    assert used(answer) == 1
    assert answer.headers["Content-Type"] == (
        "application/json" if real.body.startswith(b"{") else real.headers["Content-Type"]
    )
    assert exchange.live_key(ALICE, "usdm") is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "unknown_error"),
        ({"status": 500}, "unknown_error"),
        ({"status": 503}, "throttled"),
        ({"status": 418}, "ip_banned"),
        ({"status": 403}, "waf_blocked"),
        ({"code": -1125}, "listen_key_not_found"),
        ({"code": -1003}, "rate_limited"),
        ({"code": 0}, "restricted_location"),
        ({"status": 503, "code": -1001}, "internal_error"),
    ],
)
def test_what_a_fault_leaves_open_comes_from_the_real_answers(exchange, fields, expected):
    exchange.fault(**fields)
    answer = ask(exchange, "PUT")
    assert said(answer) == said(REAL_ANSWERS[expected])


@pytest.mark.parametrize(
    ("fields", "status", "body"),
    [
        ({"status": 502}, 502, b""),
        ({"status": 400, "code": -1102, "msg": "Bad."}, 400, b'{"code":-1102,"msg":"Bad."}'),
        ({"code": -1102}, 400, b'{"code":-1102,"msg":""}'),
        ({"status": 503, "msg": "Busy."}, 503, b'{"code":-1000,"msg":"Busy."}'),
        ({"status": 200, "body": "<html>"}, 200, b"<html>"),
        ({"status": 200, "body": b"\xff\x00"}, 200, b"\xff\x00"),
    ],
)
def test_a_fault_answers_what_it_was_given(exchange, fields, status, body):
    exchange.fault(**fields)
    assert said(ask(exchange, "PUT")) == (status, body)


def test_a_fault_adds_its_headers(exchange):
    exchange.fault(status=429, headers={"Retry-After": "30"})
    answer = ask(exchange, "PUT")
    assert (answer.headers["Retry-After"], used(answer)) == ("30", 1)


def test_a_fault_of_one_product_meets_its_whole_host_and_no_other(exchange):
    exchange.fault(product="usdm", status=503)
    assert ask(exchange, "POST").status == 503
    assert ask(exchange, "GET", PING).status == 503
    assert ask(exchange, "POST", PATHS["options"]).status == 200


def test_a_fault_of_one_account_leaves_the_others_alone(exchange):
    exchange.add_account(BOB)
    exchange.fault(api_key=BOB, status=500)
    assert (ask(exchange, "POST").status, ask(exchange, "POST", api_key=BOB).status) == (200, 500)


def test_a_fault_of_one_method_leaves_the_others_alone(exchange):
    exchange.fault(method="POST", status=500)
    assert (ask(exchange, "POST").status, ask(exchange, "PUT").status) == (500, 400)


def test_faults_end_after_their_times_one_after_the_other(exchange):
    first = exchange.fault(status=500, times=2)
    exchange.fault(status=503, times=1)
    assert [ask(exchange, "POST").status for _ in range(4)] == [500, 500, 503, 200]
    assert first.hits == 2


def test_a_fault_ends_when_its_time_is_up(exchange, clock):
    exchange.fault(status=503, until=START + 240)
    assert ask(exchange, "POST").status == 503
    clock.advance(240)
    assert ask(exchange, "POST").status == 200


def test_a_fault_ends_when_it_is_cleared(exchange):
    fault, other = exchange.fault(status=503), exchange.fault(status=500)
    fault.clear()
    assert ask(exchange, "POST").status == 500
    other.clear()
    assert ask(exchange, "POST").status == 200


def test_clearing_all_faults_makes_the_exchange_well_again(exchange):
    exchange.fault(status=503)
    exchange.fault("hang")
    exchange.clear_faults()
    assert ask(exchange, "POST").status == 200


@pytest.mark.parametrize("kind", ["answer", "redirect", "hang", "reset"])
def test_a_fault_has_no_effect_unless_asked(exchange, kind):
    fault = exchange.fault(kind)
    ask(exchange, "POST")
    assert exchange.live_key(ALICE, "usdm") is None
    fault.clear()
    exchange.fault(kind, effect=True)
    ask(exchange, "POST")
    assert exchange.live_key(ALICE, "usdm")


def test_after_does_what_was_asked_and_then_fails(exchange):
    exchange.fault("after", status=503)
    assert ask(exchange, "POST").status == 503
    assert exchange.live_key(ALICE, "usdm")


def test_a_redirect_keeps_the_method_and_names_the_other_host(exchange):
    exchange.fault("redirect", headers={"Location": "http://127.0.0.1:1/"})
    answer = ask(exchange, "PUT")
    assert (answer.status, answer.headers["Location"]) == (307, "http://127.0.0.1:1/")


@pytest.mark.parametrize("kind", ["drip", "truncate"])
def test_a_bad_delivery_carries_the_real_answer(exchange, kind):
    exchange.fault(kind, delay=0.5)
    answer = ask(exchange, "POST")
    assert (answer.status, answer.transport, answer.delay) == (200, kind, 0.5)
    assert json.loads(answer.body) == {"listenKey": exchange.live_key(ALICE, "usdm")}


def test_a_bad_delivery_can_carry_another_answer_without_effect(exchange):
    exchange.fault("drip", answer=REAL_ANSWERS["extended"])
    assert ask(exchange, "POST").body == REAL_ANSWERS["extended"].body
    assert exchange.live_key(ALICE, "usdm") is None


@pytest.mark.parametrize("kind", ["hang", "reset"])
def test_no_answer_is_recorded_with_status_zero(exchange, kind):
    exchange.fault(kind)
    assert ask(exchange, "PUT").transport == kind
    assert exchange.requests[-1].status == 0


@pytest.mark.parametrize("fields", [{"kind": "explode"}, {"product": "spot"}])
def test_an_unknown_fault_is_refused(exchange, fields):
    with pytest.raises(ValueError, match="no such fault"):
        exchange.fault(**fields)


def test_many_threads_get_one_key_and_every_request_is_counted(exchange):
    with ThreadPoolExecutor(16) as pool:
        answers: list[Answer] = list(pool.map(lambda _: ask(exchange, "POST"), range(500)))
    assert len({answer.body for answer in answers}) == 1
    assert sorted(map(used, answers)) == list(range(1, 501))
    assert exchange.count == len(exchange.requests) == 500


@pytest.fixture
def heard(exchange):
    """What is heard of ALICE's usdm listenKey, started now."""
    events = []
    exchange.listen(start(exchange), {"usdm"}, lambda product, event: events.append(event))
    return events


def names(events):
    return [event["e"] for event in events]


def test_orders_are_numbered_even_if_nobody_listens(exchange, heard):
    exchange.add_account(BOB)
    assert [exchange.emit_order(key) for key in (ALICE, BOB, ALICE)] == [1, 2, 3]
    assert [event["o"]["i"] for event in heard] == [1, 3]
    assert (exchange.orders(ALICE), exchange.orders(BOB), exchange.orders(BOB, "coinm")) == ([1, 3], [2], [])


def test_all_orders_are_those_of_the_account_as_binance_answers_them(exchange, heard):
    exchange.add_account(BOB)
    for key, product, fields in ((ALICE, "usdm", {"X": "FILLED"}), (BOB, "usdm", {}), (ALICE, "coinm", {})):
        exchange.emit_order(key, product, **fields)
    answer = exchange.handle(
        "GET", "/fapi/v1/allOrders?symbol=BTCUSDT&signature=any", {"X-MBX-APIKEY": ALICE}
    )
    [order] = json.loads(answer.body)
    [event] = heard
    assert answer.status == 200
    assert (order["orderId"], order["symbol"], order["status"]) == (1, "BTCUSDT", "FILLED")
    assert order["updateTime"] == event["T"]
    assert exchange.handle("GET", "/fapi/v1/allOrders", {"X-MBX-APIKEY": "unknown" * 9}).status == 401


def test_listeners_are_told_once_that_a_key_has_expired_and_nothing_after(exchange, heard, clock):
    clock.advance(3600)
    exchange.emit_order(ALICE)
    assert names(heard) == ["listenKeyExpired"]
    start(exchange)
    exchange.emit_order(ALICE)
    exchange.notice_expired()
    assert names(heard) == ["listenKeyExpired"]


def test_an_expired_key_is_noticed_without_any_event(exchange, heard, clock):
    clock.advance(3599)
    exchange.notice_expired()
    assert heard == []
    clock.advance(1)
    exchange.notice_expired()
    assert heard == [
        {"e": "listenKeyExpired", "E": int(START + 3600) * 1000, "listenKey": heard[0]["listenKey"]}
    ]


def test_a_new_key_does_not_hide_that_the_old_one_expired(exchange, heard, clock):
    clock.advance(3600)
    start(exchange)
    exchange.notice_expired()
    assert names(heard) == ["listenKeyExpired"]


@pytest.mark.parametrize("close", ["delete", "rotate"])
def test_a_key_that_is_closed_is_not_said_to_expire(exchange, heard, clock, close):
    if close == "delete":
        ask(exchange, "DELETE")
    else:
        exchange.rotate(ALICE, "usdm")
    clock.advance(3600)
    exchange.notice_expired()
    assert heard == []


def test_a_key_that_had_expired_before_it_was_rotated_is_said_to_have_expired(exchange, heard, clock):
    clock.advance(3600)
    exchange.rotate(ALICE, "usdm")
    assert names(heard) == ["listenKeyExpired"]


def test_nobody_listens_to_a_dead_key_or_with_the_wrong_product(exchange, clock):
    listen_key = start(exchange)
    exchange.listen(listen_key, {"coinm"}, lambda *_: pytest.fail("heard of another product"))
    exchange.emit_order(ALICE)
    clock.advance(3600)
    exchange.listen(listen_key, {"usdm"}, lambda *_: pytest.fail("heard of a dead key"))
    exchange.notice_expired()
    assert exchange.listeners(listen_key) == 0


def test_who_leaves_hears_no_more_and_the_others_go_on(exchange, heard):
    listen_key = exchange.live_key(ALICE, "usdm")
    leave = exchange.listen(listen_key, {"usdm"}, lambda *_: pytest.fail("heard after leaving"))
    assert exchange.listeners(listen_key) == 2
    leave()
    leave()
    exchange.emit_order(ALICE)
    assert (exchange.listeners(listen_key), names(heard)) == (1, ["ORDER_TRADE_UPDATE"])
