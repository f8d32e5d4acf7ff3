"""What Binance's answers mean, one by one: by status and code, never by what they say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from listenkeys.binance.answers import Answer, read_answer
from listenkeys.errors import (
    AccountError,
    Blocked,
    ListenKeyNotFound,
    RateLimited,
    Refused,
    Rejected,
    Transient,
)
from local.binance.exchange import REAL_ANSWERS

SENT_AT = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "3HBntNTepshgEdjIwSUIBgB9keLyOCg5qv3n6bYAtktG8ejcaW5HXz9Vx1JgIieg"
Meaning = tuple[type[AccountError], str, bool]

NOT_FOUND: Meaning = (ListenKeyNotFound, "LISTEN_KEY_NOT_FOUND", False)
BAD_KEY: Meaning = (Rejected, "INVALID_API_KEY", False)
BAD_REQUEST: Meaning = (Rejected, "BAD_REQUEST", False)
LIMITED: Meaning = (RateLimited, "RATE_LIMITED", True)
BANNED: Meaning = (Refused, "IP_BANNED", True)
BLOCKED: Meaning = (Blocked, "WAF_BLOCKED", True)
WRONG_REGION: Meaning = (Refused, "RESTRICTED_LOCATION", True)
TROUBLE: Meaning = (Transient, "SERVER_ERROR", True)
NONSENSE: Meaning = (Transient, "BAD_RESPONSE", True)

REAL: dict[str, Meaning | str | None] = {
    "extended": KEY,
    "empty": None,
    "listen_key_not_found": NOT_FOUND,
    "invalid_api_key": BAD_KEY,
    "api_key_format": BAD_KEY,
    "rate_limited": LIMITED,
    "ip_banned": BANNED,
    "unknown_error": TROUBLE,
    "throttled": TROUBLE,
    "internal_error": TROUBLE,
    "service_unavailable": TROUBLE,
    "restricted_location": WRONG_REGION,
    "waf_blocked": BLOCKED,
}


def read(status: int, body: Any, headers: dict[str, str] | None = None) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(status, headers or {}, raw, SENT_AT)


def trouble(status: int, body: Any, headers: dict[str, str] | None = None) -> AccountError:
    with pytest.raises(AccountError) as raised:
        read(status, body, headers)
    return raised.value


def meaning(error: AccountError) -> Meaning:
    return type(error), error.code, error.retryable


@pytest.mark.parametrize("name", REAL_ANSWERS)
def test_a_real_answer_means_what_it_means(name: str) -> None:
    real, expected = REAL_ANSWERS[name], REAL[name]

    if isinstance(expected, tuple):
        error = trouble(real.status, real.body)
        assert meaning(error) == expected
        assert error.http_status == real.status
    else:
        assert read(real.status, real.body) == Answer(SENT_AT, expected)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, -1125, NOT_FOUND),
        *((400, code, BAD_REQUEST) for code in (-1102, -1105, -1106)),
        *((401, code, BAD_KEY) for code in (-2014, -2015, -1002)),
        *((400, code, BAD_KEY) for code in (-2014, -2015, -1002, -2008, -2017, -4109, -1011, -1099)),
        (401, -9999, BAD_KEY),
        (404, -5000, BAD_REQUEST),
        (405, -1, BAD_REQUEST),
        *((400, code, TROUBLE) for code in (-1000, -1001, -1006, -1007, -1008, -1016)),
        *((status, -1000, TROUBLE) for status in (408, 500, 502, 503, 504, 520)),
        (500, -2015, TROUBLE),  # a broken gateway says nothing about a key
        (429, -1003, LIMITED),
        (429, -2015, LIMITED),
        (400, -1003, LIMITED),
        (418, -1003, BANNED),
        (418, -1125, BANNED),
        (403, -2015, BLOCKED),
        (451, 0, WRONG_REGION),
        (200, -1125, NOT_FOUND),
        (200, -1000, TROUBLE),
        (200, -9999, NONSENSE),
        (204, 0, NONSENSE),
        (301, 0, NONSENSE),
    ],
)
def test_a_documented_status_and_code_mean_what_they_mean(status: int, code: int, expected: Meaning) -> None:
    error = trouble(status, {"code": code, "msg": "words that change"})

    assert meaning(error) == expected
    assert error.http_status == status
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, NONSENSE),
        (302, NONSENSE),
        (401, BAD_KEY),
        (403, BLOCKED),
        (404, BAD_REQUEST),
        (408, TROUBLE),
        (418, BANNED),
        (429, LIMITED),
        (451, WRONG_REGION),
        (500, TROUBLE),
        (503, TROUBLE),
    ],
)
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Service Unavailable.</html>", b"\xff\xfe", b"null", b'{"code":true}', b'{"code":"-1125"}'],
    ids=["empty", "html", "binary", "null", "code true", "code text"],
)
def test_a_status_speaks_for_itself_where_the_body_says_nothing(
    status: int, expected: Meaning, body: bytes
) -> None:
    if status == 200 and body.startswith(b"{"):
        assert read(status, body).listen_key is None  # no code that could be understood, and no key
    else:
        assert meaning(trouble(status, body)) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"listenKey": None},
        {"listenKey": ""},
        {"listenKey": 5},
        {"listenKey": ["key"]},
        {"listenKey": "with space"},
        {"listenKey": "line\nbreak"},
        {"listenKey": "k" * 257},
        ["listenKey"],
        "listenKey",
        b'{"listenKey":"3HBntNTepshg',
        b'{"listenKey":"key"}'.ljust(65_537),
        b"[" * 20_000,
    ],
    ids=lambda body: str(body)[:24],
)
def test_a_200_that_makes_no_sense_is_not_a_success(body: Any) -> None:
    assert meaning(trouble(200, body)) == NONSENSE


def test_an_answer_of_the_greatest_length_counts() -> None:
    assert read(200, b'{"listenKey":"key"}'.ljust(65_536)).listen_key == "key"


@pytest.mark.parametrize("code", [0, 200])
def test_a_success_may_carry_a_code(code: int) -> None:
    assert read(200, {"code": code, "msg": "success", "listenKey": KEY}).listen_key == KEY


@pytest.mark.parametrize(
    ("headers", "weight"),
    [
        ({"X-MBX-USED-WEIGHT-1M": "17"}, 17),
        ({}, None),
        ({"X-MBX-USED-WEIGHT-1M": ""}, None),
        ({"X-MBX-USED-WEIGHT-1M": "many"}, None),
        ({"X-MBX-USED-WEIGHT-1M": "-1"}, None),
        ({"X-MBX-USED-WEIGHT-1M": "9" * 30}, None),
    ],
)
def test_the_used_weight_is_read_where_it_is_a_number(headers: dict[str, str], weight: int | None) -> None:
    assert read(200, {}, headers).used_weight == weight


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("30", 30.0), ("3600", 3600.0), ("0", 1.0)]
    + [(nonsense, None) for nonsense in ("-5", "3601", "9999999999", "soon", "1.5", "")]
    + [("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)
def test_a_pause_is_believed_when_it_is_a_sensible_number_of_seconds(
    retry_after: str, seconds: float | None
) -> None:
    error = trouble(429, REAL_ANSWERS["rate_limited"].body, {"Retry-After": retry_after})

    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


@pytest.mark.parametrize("said", ["IP banned until 1660090423228", "This listenKey does not exist.", "429"])
def test_words_change_nothing(said: str) -> None:
    assert meaning(trouble(400, {"code": -1102, "msg": said})) == BAD_REQUEST


def test_a_refused_key_comes_with_binances_own_words() -> None:
    real = REAL_ANSWERS["invalid_api_key"]

    said = trouble(real.status, real.body).message

    assert (
        "(HTTP 401, code -2015: Invalid API-key, IP, or permissions for action, request ip: 203.0.113.7)"
        in said
    )


def test_a_wrong_region_says_what_to_do() -> None:
    assert "does not serve this location" in trouble(451, REAL_ANSWERS["restricted_location"].body).message


@pytest.mark.parametrize(
    "message",
    [f"key {KEY} is wrong", f"{KEY}", "x" * 5000, "two\nlines\x1b[31m", "<H1>403 ERROR</H1>" * 100],
    ids=["key in words", "key alone", "long", "control characters", "html"],
)
@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_binances_words_are_cut_short_and_hold_no_credential(status: int, message: str) -> None:
    said = str(trouble(status, {"code": -2015, "msg": message}))

    assert KEY not in said
    assert len(said.partition("code -2015: ")[2]) <= 160 + len(")")
    assert said.isprintable()


def test_a_listen_key_does_not_show_in_a_repr() -> None:
    assert KEY not in repr(read(200, {"listenKey": KEY}))
