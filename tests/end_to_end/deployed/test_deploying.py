"""README's way to a deployed stack: the real SAM CLI, by questions and without any."""

from __future__ import annotations

import subprocess
import tomllib
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from listenkey_keeper import __version__
from local.aws.stack import expand
from tests.end_to_end.deployed.account import Account
from tests.paths import ROOT

pytestmark = pytest.mark.e2e

PARAMETERS = expand()["Parameters"]
DEFAULTS = {name: parameter["Default"] for name, parameter in PARAMETERS.items()}
OF_SAM = 9  # stack, region, and how to deploy and save


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with warnings.catch_warnings():
        # A policy of SAM's own bucket.
        warnings.filterwarnings("ignore", message="Tried to parse AWS::S3::BucketPolicy")
        with Account(tmp_path) as made:
            yield made


@pytest.mark.row(72)
def test_enter_to_every_question_of_sam_deploy_guided_deploys(account: Account) -> None:
    account.put_the_built_application_there()
    with closing(account.terminal("deploy", "--guided")) as terminal:
        asked = terminal.press_enter_at_each_question(len(PARAMETERS) + OF_SAM)
        assert terminal.end() == 0, terminal.output

    assert {line.split()[1] for line in asked if line.startswith("Parameter ")} == PARAMETERS.keys()
    assert account.parameters() == DEFAULTS

    # And then without questions, by what the dialog has saved.
    again = account.sam("deploy")
    assert again.returncode == 0, again.stdout + again.stderr
    assert account.parameters() == DEFAULTS


def test_a_setting_in_samconfig_survives_deployments(
    account: Account,
) -> None:
    account.put_the_built_application_there()
    account.set("RenewAfterMinutes=10")
    account.set("AlarmEmail=ops@example.com")
    account.set("SubnetIds=subnet-1,subnet-2")
    account.set("SecurityGroupIds=sg-1")
    for _ in range(3):
        done = account.sam("deploy")
        assert done.returncode == 0, done.stdout + done.stderr
        given = account.parameters()
        assert (given["RenewAfterMinutes"], given["AlarmEmail"]) == ("10", "ops@example.com")
        assert given["SubnetIds"] == "subnet-1,subnet-2"

    for line in ('AlarmEmail=""', 'SubnetIds=""', 'SecurityGroupIds=""'):
        account.set(line)
    done = account.sam("deploy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert account.parameters() == DEFAULTS | {"RenewAfterMinutes": "10"}

    # As one might type it; docs/operations.md says that SAM refuses it.
    account.set("AlarmEmail=")
    refused = account.sam("deploy")
    assert refused.returncode != 0
    assert "AlarmEmail=" in refused.stdout + refused.stderr


def test_the_releases_zip_unpacked_elsewhere_deploys_without_a_question(account: Account) -> None:
    subprocess.run(
        ["make", "--no-print-directory", "-o", ".venv-sam/.installed", "dist"], cwd=ROOT, check=True
    )
    name = f"listenkey-keeper-{__version__}"
    with zipfile.ZipFile(ROOT / f"dist/{name}.zip") as release:
        release.extractall(account.home)
    account.folder = account.home / name
    done = account.sam("deploy")

    assert done.returncode == 0, done.stdout + done.stderr
    assert account.parameters() == DEFAULTS
    config = tomllib.loads((account.folder / "samconfig.toml").read_text())
    assert config == tomllib.loads((ROOT / "samconfig.toml").read_text())
