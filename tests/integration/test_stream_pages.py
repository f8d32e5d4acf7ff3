"""docs/consumer.md and docs/stream.md: their code, a bot's queue, their URLs."""

import ast
import json
import re
from typing import Any, get_args

import pytest
from samtranslator.yaml_helper import yaml_parse

import listenkey_keeper
from listenkey_keeper.stream import gaps, keys
from listenkeys.model import fingerprint
from listenkeys.products import ENDPOINTS, PRODUCTS, endpoint_name
from local.aws.stack import REGION
from tests.pages import PAGE, blocks
from tests.paths import ROOT
from tests.scene import Scene

STREAM_PAGE = (ROOT / "docs/stream.md").read_text()


def test_the_page_reads_a_key_and_says_that_it_is_dead(world: Scene, monkeypatch: Any, capsys: Any) -> None:
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    world.put_current("alice", "x" * 64, world.clock.now())
    code = "".join(blocks(PAGE, "python")).replace(
        "<ListenKeysTableName>", world.aws.outputs["ListenKeysTableName"]
    )
    code = code.replace("<the stack's region>", REGION)
    exec(compile(code, "docs/consumer.md", "exec"), {})
    assert capsys.readouterr().out == (
        "alice usdm 2026-01-01 01:00:00+00:00\nusdm 2026-01-01T01:00:00.000Z\n"
    )
    [event] = world.aws.sent_events()
    [written] = map(json.loads, blocks(PAGE, "json"))
    assert (event["source"], event["detail-type"]) == (written["Source"], written["DetailType"])
    assert event["detail"].keys() == json.loads(written["Detail"]).keys()
    assert event["detail"]["fingerprint"] == fingerprint("x" * 64)


def test_the_queue_of_a_bot_lets_its_rule_in() -> None:
    template = yaml_parse((ROOT / "examples/bot/template.yaml").read_text())
    policy = template["Resources"]["ListenKeyChangesPolicy"]["Properties"]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert policy["Queues"] == [{"Ref": "ListenKeyChanges"}]
    assert (statement["Action"], statement["Principal"]) == (
        "sqs:SendMessage",
        {"Service": "events.amazonaws.com"},
    )
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["ListenKeyChangesRule", "Arn"]}}
    }


def test_the_page_has_no_url_of_usdm_without_its_events() -> None:
    events = "ORDER_TRADE_UPDATE/ALGO_UPDATE/ACCOUNT_UPDATE/listenKeyExpired"
    urls = re.findall(r"ws\?listenKey=.*", PAGE)
    assert urls
    assert all(re.search(rf"&events=({events}|\.\.\.$)", url) for url in urls)
    assert events in PAGE


def test_the_pages_table_of_urls_is_what_the_stream_opens() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| `<streamUrl>(\S+)` \|$", PAGE, re.MULTILINE)
    opened = {product: path.partition("&events")[0] for product, (_, path) in keys._URLS.items()}
    documented = {product: url.replace("<listenKey>", "{key}") for product, url in rows}
    assert {product: url.partition("&events")[0] for product, url in documented.items()} == opened
    assert documented.keys() == set(PRODUCTS)


def test_the_pages_streams_are_those_that_are_recorded() -> None:
    table = PAGE.partition("| `environment` |")[2].partition("\n\n")[0]
    heads, _, *rows = [line.split("|") for line in table.splitlines()]
    written = {
        endpoint_name(product, row[1].strip(" `")): cell.strip(" `")
        for row in rows
        for names, cell in zip(heads[:-1], row[2:], strict=False)
        for product in re.findall(r"[a-z-]+", names)
    }
    assert {name: stream for name, stream in written.items() if name} == {
        name: endpoint.stream for name, endpoint in ENDPOINTS.items()
    }
    assert {stream for name, stream in written.items() if not name} == {"none"}


@pytest.mark.parametrize("code", blocks(STREAM_PAGE, "python"))
def test_the_streams_page_imports_what_there_is(code: str) -> None:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "listenkey_keeper":
            assert {name.name for name in node.names} <= set(listenkey_keeper.__all__)


def test_the_page_of_the_stream_has_every_cause_of_a_gap_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z ]+)` \| .* \| .* \|$", STREAM_PAGE.partition("## Gaps")[2], re.MULTILINE)
    assert set(get_args(gaps.Why)) - {"closed"} <= set(rows)
