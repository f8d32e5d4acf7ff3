"""The documentation says what code and template say: outcomes, codes, alarms, permissions; both ways."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from listenkeys.aws.announcements import NAMED
from listenkeys.errors import ErrorCode
from listenkeys.model import Outcome
from listenkeys.products import ENDPOINTS, ENVIRONMENTS, PRODUCTS, endpoint_name
from listenkeys.report import Report
from listenkeys.trigger import EXPIRED, MANUAL, SWEEP, TICK
from listenkeys.view.remedies import REMEDIES
from local.aws.stack import choose, expand
from local.binance.server import BinanceServer
from local.front import VERBS
from tests.integration.test_reporting import METRICS
from tests.pages import blocks
from tests.paths import ROOT
from tests.policies import statements_of
from tests.waiting import SECONDS

TEMPLATE = expand()
BOT = yaml_parse((ROOT / "examples/bot/template.yaml").read_text())
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    ROOT / "benchmarks/README.md",
    ROOT / "examples/bot/README.md",
]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
ALARMS = (ROOT / "docs/alarms.md").read_text()
COMMAND = (ROOT / "docs/command.md").read_text()
MESSAGES = (ROOT / "docs/messages.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
REFERENCE = (ROOT / "docs/reference.md").read_text()
SECURITY = (ROOT / "docs/security.md").read_text()
WITH_EVERYTHING = {
    "KmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/0f1e2d3c",
    "SubnetIds": "subnet-1",
    "SecurityGroupIds": "sg-1",
    "SecretsKmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1a2b3c4d",
    "ShardCount": "4",
    "AlarmEmail": "ops@example.com",
}


def section(text: str, title: str) -> str:
    """Return what stands under a heading of the second level."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(text: str) -> list[list[str]]:
    """Return the rows of the one table in a text, without its heading."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_of_error_codes_has_each_code_once() -> None:
    documented = [quoted(row[0])[0] for row in table(section(REFERENCE, "Error codes"))]
    assert sorted(documented) == sorted(ErrorCode)


def test_the_program_says_what_to_do_about_each_code_as_the_page_does() -> None:
    documented = {
        quoted(code)[0]: todo.replace("`", "") for code, _, todo in table(section(REFERENCE, "Error codes"))
    }
    assert documented == REMEDIES


def test_the_table_of_outcomes_has_each_outcome_once_and_no_other() -> None:
    documented = [quoted(row[0])[0] for row in table(section(REFERENCE, "Outcomes"))]
    assert sorted(documented) == sorted(map(str, Outcome))


def metrics() -> list[str]:
    return [name for row in table(section(REFERENCE, "Metrics")) for name in quoted(row[0])]


@pytest.mark.parametrize("title", ["Outcomes", "Error codes"])
def test_every_row_says_what_it_means_and_what_to_do(title: str) -> None:
    assert all(len(row) == 3 and all(row) for row in table(section(REFERENCE, title)))


def test_every_alarm_has_its_section_with_steps_and_no_other_has() -> None:
    alarms = {n for n, r in TEMPLATE["Resources"].items() if r["Type"] == "AWS::CloudWatch::Alarm"}
    sections = re.findall(r"\n### (\w+Alarm)\n(.*?)(?=\n##|\Z)", ALARMS, re.DOTALL)
    assert sorted(name for name, _ in sections) == sorted(alarms)
    assert all("\n1. " in text for _, text in sections)


def granted() -> dict[str, set[str]]:
    resources = choose(TEMPLATE, WITH_EVERYTHING)["Resources"]
    return {
        statement["Sid"]: {statement["Action"]}
        if isinstance(statement["Action"], str)
        else set(statement["Action"])
        for role in ("KeepaliveRole", "ShardRole")
        for statement in statements_of(resources, role)
    }


def test_every_statement_of_the_roles_is_explained() -> None:
    rows = table(section(SECURITY, "What each permission is for"))
    assert {quoted(row[0])[0]: set(quoted(row[1])) for row in rows} == granted()
    assert len(rows) == len(granted())
    assert all(row[2] and row[3] for row in rows)


def test_every_parameter_a_page_names_exists() -> None:
    known = {name for part in ("Parameters", "Resources", "Outputs") for name in TEMPLATE[part]}
    known |= granted().keys() | {"ListenKeyKeeper", *metrics(), *BOT["Parameters"], *BOT["Outputs"]}
    for policy in ROOT.glob("docs/*-policy.json"):
        known |= {statement["Sid"] for statement in json.loads(policy.read_text())["Statement"]}
    for page in (ALARMS, COMMAND, MESSAGES, OPERATIONS, REFERENCE, SECURITY):
        for name in re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)(?:=[^`]*)?`", page):
            assert name in known, name


def test_every_command_a_page_names_exists() -> None:
    from typer.main import get_command

    from listenkey_keeper.cli.main import app

    def names(command: Any, path: str = "") -> Iterator[str]:
        for name, inner in getattr(command, "commands", {}).items():
            yield f"{path}{name}"
            yield from names(inner, f"{path}{name} ")

    known = set(names(get_command(app)))
    for page in (ALARMS, COMMAND, MESSAGES, OPERATIONS, REFERENCE, SECURITY):
        for said in re.findall(r"`listenkeys ([a-z]+(?: [a-z]+)?)", page):
            # After a command of one word the second is an account's name.
            assert said in known or said.split()[0] in known - {"accounts"}, said


def test_the_reference_has_every_parameter_with_its_default_and_no_other() -> None:
    rows = table(section(REFERENCE, "Parameters"))
    said = {name.strip("`"): default.strip("`") for name, default, *_ in rows}
    assert said == {name: str(each["Default"]) for name, each in TEMPLATE["Parameters"].items()}


def test_the_reference_says_which_numbers_and_words_cloudformation_takes() -> None:
    for name, _, allowed, _ in table(section(REFERENCE, "Parameters")):
        parameter = TEMPLATE["Parameters"][name.strip("`")]
        if found := re.search(r"(\d+) to (\d+)$", allowed):
            first, last = map(int, found.groups())
            taken = parameter.get("AllowedValues") or [
                str(number)
                for number in (first - 1, first, last, last + 1)
                if re.fullmatch(parameter["AllowedPattern"], str(number))
            ]
            assert (int(taken[0]), int(taken[-1])) == (first, last), name
        elif "AllowedValues" in parameter:
            assert quoted(allowed) == parameter["AllowedValues"]


def test_the_reference_has_every_output_and_no_other() -> None:
    assert {quoted(row[0])[0] for row in table(section(REFERENCE, "Outputs"))} == TEMPLATE["Outputs"].keys()


def test_the_reference_has_every_field_of_a_report_and_each_kind_of_run() -> None:
    text = section(REFERENCE, "Runs and their report")
    kinds, fields = (table(part) for part in text.split("\n\nA run returns"))
    report = Report("run", TICK, dry_run=True, probe={"host": ""}).to_dict()
    assert {name for row in fields for name in quoted(row[0])} == report.keys()
    assert {quoted(row[0])[0] for row in kinds} == {TICK, SWEEP, MANUAL, EXPIRED}


def test_the_reference_has_each_metric_once_and_no_other() -> None:
    assert sorted(metrics()) == sorted(METRICS)


def test_the_reference_has_binances_hosts_and_paths() -> None:
    rows = table(section(REFERENCE, "Hosts and paths"))
    assert [quoted(row[0])[0] for row in rows] == list(PRODUCTS)
    for product, *hosts, path in rows:
        for environment, host in zip(ENVIRONMENTS, hosts, strict=True):
            endpoint = ENDPOINTS.get(endpoint_name(quoted(product)[0], environment) or "")
            wanted = (endpoint.host, endpoint.path) if endpoint else ("https://none", quoted(path)[0])
            assert (f"https://{host.strip('`')}", quoted(path)[0]) == wanted


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("curl")), reason="needs jq and curl")
def test_what_renews_keys_manually_does_so(tmp_path: Path) -> None:
    """For one account and for all, with API keys in a secret of their own and in a shared one."""
    accounts = [
        dict(zip(("accountId", "enabled", "product", "secretId", "secretField"), values, strict=True))
        | {"environment": "demo" if values[0] == "eve" else "live"}
        for values in (
            ("alice", True, "usdm", "listenkeys/alice", "apiKey"),
            ("bob", True, "usdm", "listenkeys/shared-1", "bob"),
            ("carol", True, "coinm", "listenkeys/shared-1", "carol"),
            ("dave", False, "usdm", "listenkeys/dave", "apiKey"),
            ("eve", True, "usdm", "listenkeys/eve", "apiKey"),
            ("frank", True, "usdm", "listenkeys/gone", "apiKey"),
            ("grace", True, "usdm", "listenkeys/shared-1", "grace"),
        )
    ]
    keys = {"alice": "a" * 64, "bob": "b" * 64, "carol": "c" * 64}
    own, shared = (
        json.dumps({"apiKey": keys["alice"]}),
        json.dumps({name: keys[name] for name in ("bob", "carol")}),
    )
    stubs = f"""
        aws() {{ case "$4" in */shared-1) echo '{shared}';; */gone) return 254;; *) echo '{own}';; esac; }}
    """
    (tmp_path / "accounts.json").write_text(json.dumps(accounts))
    lines = (
        f"alice,usdm,{keys['alice']},listenkeys/olivia",
        f"carol,coinm,{keys['carol']}",
        f"bob,usdm,{keys['bob']}",
    )
    (tmp_path / "accounts.csv").write_text("".join(f"{line}\n" for line in lines))
    part = ALARMS.partition("## Renew a key manually")[2].partition("\n## ")[0]
    one, [loop, from_file] = blocks(part, "console")[0], blocks(part, "bash")
    typed = re.sub(r"^\$ ", "", one.partition('{"listenKey"')[0], flags=re.MULTILINE)
    one_account = typed.replace("<secret>", "listenkeys/shared-1").replace("<field>", "bob")
    with BinanceServer() as binance:
        for key, product in zip(keys.values(), ("usdm", "usdm", "coinm"), strict=True):
            binance.exchange.add_account(key)
            binance.exchange.rotate(key, product)
        usdm, coinm = (
            f"product={each} url={ENDPOINTS[each].host}{ENDPOINTS[each].path}" for each in ("usdm", "coinm")
        )
        of_coinm = [script.replace(usdm, coinm) for script in (loop, from_file)]
        printed = []
        for script in (one_account, loop, from_file, *of_coinm):
            script = script.replace(ENDPOINTS["coinm"].host, binance.url)
            done = subprocess.run(
                ["bash", "-c", stubs + script.replace(ENDPOINTS["usdm"].host, binance.url)],
                capture_output=True, text=True, timeout=SECONDS, check=True, cwd=tmp_path,
            )  # fmt: skip
            printed.append(done.stdout)
        sent = [(request.method, request.api_key) for request in binance.exchange.requests]
    both = [("PUT", keys["alice"]), ("PUT", keys["bob"])]
    assert sent == [("PUT", keys["bob"]), *both, *both, *[("PUT", keys["carol"])] * 2]
    assert printed[1:] == [
        "alice 200\nfrank: no API key\nbob 200\ngrace: no API key\n",
        "alice 200\nbob 200\n",
        "carol 200\n",
        "carol 200\n",
    ]


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")
def test_what_copies_accounts_copies_each_secret_and_row(tmp_path: Path) -> None:
    arn = "arn:aws:secretsmanager:here:123456789012:secret:listenkeys/of-bob-1A2b3C"
    secrets = [
        {"secretId": each} for each in ("listenkeys/two", arn, "listenkeys/two", "listenkeys/gone", None)
    ]
    alice, bob = {"accountId": {"S": "alice"}, "note": {"S": "a  b"}}, {"secretId": {"S": arn}}
    stubs = f"""
        listenkeys() {{ echo '{json.dumps(secrets)}'; }}
        aws() {{
          case "$*" in
            *describe-stacks*) echo "table-${{@: -1}}";;
            *put-item*) echo "$2 $4 $8: $6" >> written;;
            *scan*table-here*) echo '{json.dumps({"Items": [alice, bob]})}';;
            *get-secret-value*/gone*) return 254;;
            *get-secret-value*) echo "content of $4";;
            *put-secret-value*/two*) return 254;;
            *secret*) echo "$2 $4 $8: $(cat)" >> written;;
          esac
        }}
    """
    [script] = blocks(section(OPERATIONS, "Two regions"), "bash")
    script = script.replace("<from>", "here").replace("<to>", "there")
    subprocess.run(["bash", "-c", stubs + script], check=True, cwd=tmp_path, timeout=SECONDS)
    bob["secretId"]["S"] = "listenkeys/of-bob"
    assert (tmp_path / "written").read_text().splitlines() == [
        "put-secret-value listenkeys/of-bob there: content of listenkeys/of-bob",
        "create-secret listenkeys/two there: content of listenkeys/two",
        *(f"put-item table-there there: {json.dumps(row, separators=(',', ':'))}" for row in (alice, bob)),
    ]


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")
def test_the_accounts_of_a_deleted_stack_are_copied_row_by_row(tmp_path: Path) -> None:
    rows = [{"accountId": {"S": name}, "note": {"S": r"a \" b"}} for name in ("alice", "bob")]
    stubs = f"""
        aws() {{
          case "$*" in
            *scan*" old "*) echo {shlex.quote(json.dumps({"Items": rows}))};;
            *put-item*) echo "$4 $6" >> written;;
          esac
        }}
    """
    typed = blocks(section(OPERATIONS, "Back up and move"), "console")[-1]
    [copies] = re.findall(r"\$ (aws dynamodb scan .*?done)$", typed, re.MULTILINE | re.DOTALL)
    copies = copies.replace("<old AccountsTable>", "old").replace("<new AccountsTable>", "new")
    subprocess.run(["bash", "-c", stubs + copies], check=True, cwd=tmp_path, timeout=SECONDS)
    assert (tmp_path / "written").read_text().splitlines() == [
        f"new {json.dumps(row, separators=(',', ':'))}" for row in rows
    ]


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")
def test_what_makes_a_user_for_each_owner_writes_new_access_keys(tmp_path: Path) -> None:
    """Olivia is new, Paul's user has an access key, and IAM refuses Quentin's policy."""
    stacks = [
        {"StackName": name, "Outputs": [{"OutputKey": "BotPolicyArn", "OutputValue": f"arn:{name}"}]}
        for name in ("alice-bot", "olivia-bots", "paul-bots", "quentin-bots")
    ]
    key = {"AccessKey": {"AccessKeyId": "AKIA", "SecretAccessKey": "a/b+c"}}
    stubs = f"""
        umask 022
        aws() {{
          case "$*" in
            *describe-stacks*) echo '{json.dumps({"Stacks": [*stacks, {"StackName": "new-bots"}]})}';;
            *get-user*olivia*|*attach*arn:quentin*) return 254;;
            *list-access-keys*paul*) echo AKIB;;
            *create-access-key*) echo '{json.dumps(key)}'; echo "$2 $4" >> did;;
            *create-user*) echo "$2 $4" >> did;;
            *attach*) echo "$2 $4 $6" >> did;;
          esac
        }}
    """
    text = section((ROOT / "examples/bot/README.md").read_text(), "Several bots")
    [script] = [block for block in blocks(text, "console") if "create-user" in block]
    typed = re.sub(r"^\$ ", "", script, flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-c", stubs + typed], capture_output=True, text=True, cwd=tmp_path, timeout=SECONDS
    )
    assert (done.stdout, done.stderr) == ("FAILED: quentin-bots\n", "")
    assert (tmp_path / "did").read_text().splitlines() == [
        "create-user olivia-bots",
        "attach-user-policy olivia-bots arn:olivia-bots",
        "create-access-key olivia-bots",
        "attach-user-policy paul-bots arn:paul-bots",
    ]
    [written] = (tmp_path / "keys").iterdir()
    assert (written.name, written.stat().st_mode & 0o777) == ("olivia-bots", 0o600)
    assert written.read_text() == "AWS_ACCESS_KEY_ID=AKIA\nAWS_SECRET_ACCESS_KEY=a/b+c\n"


def test_the_reference_has_every_event_file_and_no_other() -> None:
    said = {row[0].strip("`") for row in table(section(REFERENCE, "Test events"))}

    assert said == {path.name for path in (ROOT / "events").iterdir()}


def test_every_file_that_contributing_names_is_there() -> None:
    program = ROOT / "functions/keepalive"
    folders = (ROOT, program, program / "listenkeys", ROOT / "listenkey_keeper", ROOT / ".github/workflows")
    named = set(re.findall(r"`([\w.-]+(?:/[\w.-]*)+|[\w-]+\.(?:py|md|yml|yaml))`", CONTRIBUTING))
    assert "sending/gate.py" in named
    assert [name for name in named if not any((folder / name).exists() for folder in folders)] == []


def test_the_pages_say_how_many_accounts_a_message_names() -> None:
    assert f"name up to {NAMED} accounts" in " ".join(ALARMS.split())
    assert f"`accounts` (up to {NAMED} of the details above)" in REFERENCE


def test_contributing_names_each_file_with_the_placeholder_address() -> None:
    home = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
    files = ["*.*", ".github/**/*.*", "docs/*.md", "examples/**/*.md", "listenkey_keeper/**/*.py"]
    paths = {path for pattern in files for path in ROOT.glob(pattern) if path.is_file()}
    having = {str(path.relative_to(ROOT)) for path in paths if home.encode() in path.read_bytes()}
    [said] = re.findall(rf"`{home}`, is a placeholder.*?It is in (.*?): replace", CONTRIBUTING, re.DOTALL)
    assert {*quoted(said), "CONTRIBUTING.md"} == having


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_says_what_contributing_says_not_to(page: Path) -> None:
    table = CONTRIBUTING[CONTRIBUTING.index("| say | don't say |") : CONTRIBUTING.index("## Release")]
    rows = [row for row in table.splitlines()[2:] if row]
    words = [word for row in rows for word in row.rpartition(" | ")[2].strip(" |").split(", ")]
    text = page.read_text().replace(table, "")
    assert re.findall(rf"\b(?:{'|'.join(words)})\b", re.sub(r"\s+", " ", text)) == []


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_every_page_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in titles}


def test_everything_the_desk_of_the_local_world_can_do_is_on_its_page() -> None:
    rows = table(section((ROOT / "docs/local.md").read_text(), "make up"))
    said = {found[1] for row in rows if (found := re.match(r"`\.local/binance (\w+)", row[0]))}

    assert said == VERBS.keys()
