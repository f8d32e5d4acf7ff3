"""A bot tells the keeper that its key is dead, and no more than that."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from listenkey_keeper import report_expired
from local.world import World
from tests.paths import ROOT

KEY = "CANARYlistenKey".ljust(64, "7")


@pytest.mark.parametrize("said", [{}, {"dead": True}])
def test_the_event_names_the_account_and_the_keys_fingerprint(world: World, said: dict[str, bool]) -> None:
    assert report_expired("alice", KEY, **said, eventbridge=world.aws.client("events"))
    [sent] = [event for event in world.aws.sent_events() if event["source"] == "listenkey-keeper.bot"]
    assert sent["detail-type"] == "Listen Key Expired"
    assert sent["detail"] == {
        "accountId": "alice",
        "fingerprint": hashlib.sha256(KEY.encode()).hexdigest()[:12],
        "dead": bool(said),
    }
    assert KEY not in json.dumps(sent)


class Bus:
    """An EventBridge client that answers, or raises, this."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def put_events(self, **_: Any) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (ClientError({"Error": {"Code": "AccessDeniedException"}}, "PutEvents"), "AccessDeniedException"),
        (EndpointConnectionError(endpoint_url=f"https://{KEY}"), "EndpointConnectionError"),
        (RuntimeError("Credentials were refreshed, but"), "RuntimeError"),
        (PermissionError("~/.aws/config"), "PermissionError"),
        ({"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}, "ThrottlingException"),
        ({"FailedEntryCount": 1, "Entries": [{}]}, "Unknown"),
    ],
)
def test_trouble_is_logged_by_its_code_and_raises_nothing(answer: Any, why: str, caplog: Any) -> None:
    bus: Any = Bus(answer)
    assert not report_expired("alice", KEY, dead=True, eventbridge=bus)
    assert not report_expired("alice", KEY, eventbridge=bus)
    assert caplog.messages == [
        f"alice: the keeper could not be told that the listenKey is dead ({why})",
        f"alice: the keeper could not be asked whether the listenKey is alive ({why})",
    ]


@pytest.mark.slow
def test_a_misspelt_import_is_a_type_error(tmp_path: Path) -> None:
    bot = tmp_path / "bot.py"
    bot.write_text("from listenkey_keeper import Gap, UserDataStrem\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", bot],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "UserDataStrem" in done.stdout
    assert done.stdout.count("error:") == 1
