"""Lines of the pages that need AWS: what they name is what botocore and the command themselves know."""

from __future__ import annotations

import re
import shlex
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from typer.main import get_command

from listenkey_keeper.cli.main import app
from tests.integration.test_documentation import PAGES

GLOBAL = {"--query", "--region", "--output", "--profile"}
# In a sentence these are names of commands, or patterns. --install-completion ends the program itself.
NAMES = ("accounts", "history", "accounts set --OPTION VALUE NAME", "--install-completion")
# These, and `aws cloudformation deploy`, are of the tool `aws` alone, which the tests do not install.
TOOLS_OWN = ("aws configure", "aws sso login", "aws logs tail ")
DEPLOY = {"--stack-name", "--template-file", "--capabilities", "--parameter-overrides"}


def lines(program: str) -> list[str]:
    """Return what the pages say to type that begins with a program's name: lines, and words in a sentence."""
    line = re.compile(rf"^ *\$ ({program} (?:'[^']*'|\\\n|[^\n])*)", re.MULTILINE)
    texts = "\n".join(page.read_text() for page in PAGES)
    in_sentences = {" ".join(found.split()) for found in re.findall(rf"`({program} [^`]+)`", texts)}
    return sorted({found.replace("\\\n", " ") for found in line.findall(texts)} | in_sentences)


def aws_commands() -> list[str]:
    """Return the AWS commands of the pages' lines; a pipe may have two."""
    pipes = (part for line in lines("aws") for part in line.split(" | "))
    commands = {part[part.index("aws ") :] for part in pipes if "aws " in part}
    return sorted(command for command in commands if not command.startswith(TOOLS_OWN))


@pytest.mark.parametrize("line", aws_commands())
def test_a_line_for_aws_has_an_operation_and_options_of_its_service(line: str) -> None:
    _, service, verb, *rest = shlex.split(line)
    service = service.removesuffix("api")  # of s3: `aws s3` has commands of its own
    options = {word.partition("=")[0] for word in rest if word.startswith("--")} - GLOBAL
    if (service, verb) == ("cloudformation", "deploy"):
        assert options <= DEPLOY
        return
    session = botocore.session.get_session()
    if verb == "wait":
        waiters = session.get_waiter_model(service)
        names = {xform_name(name, "-"): name for name in waiters.waiter_names}
        operation = waiters.get_waiter(names[rest[0]]).operation
    else:
        model = session.get_service_model(service)
        operation = {xform_name(name, "-"): name for name in model.operation_names}[verb]
    shape = session.get_service_model(service).operation_model(operation).input_shape
    assert shape
    known = {f"--{xform_name(name, '-')}" for name in shape.members}
    known |= {
        f"--no-{xform_name(name, '-')}" for name, each in shape.members.items() if each.type_name == "boolean"
    }
    assert options <= known


def parse(command: Any, words: list[str]) -> None:
    """Raise a usage error for what the command does not take. Runs nothing."""
    context = command.make_context("listenkeys", words, resilient_parsing=False)
    if hasattr(command, "commands"):
        name, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert name
        parse(inner, rest)


@pytest.mark.parametrize("line", sorted({*lines("listenkeys")} - {f"listenkeys {name}" for name in NAMES}))
def test_a_line_for_listenkeys_is_one_that_it_takes(line: str) -> None:
    words = shlex.split(re.split(r"; | && | \| | > ", line)[0].partition("  #")[0])
    parse(get_command(app), words[1:])
