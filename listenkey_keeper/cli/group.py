"""What all commands have in common: plain help with an example, and errors that are one line."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from .errors import CliError, explain, way_to
from .output import note, unread

ACTION_NEEDED = 1
COULD_NOT = 2
NO_READER = 141  # as if SIGPIPE had ended the program
Command = TypeVar("Command", bound=Callable[..., Any])
_OF_ACCOUNTS = ("add", "import", "list", "set", "enable", "disable", "remove")
_OF_ALL = ("status", "check", "history", "listen", "renew")
_OTHER_NAMES = {"ls": "list", "rm": "remove", "delete": "remove"}  # what people type for a command
_EVERYWHERE = {"--stack-name", "--region", "--profile", "--json"}  # options that all commands have


def command(
    app: typer.Typer, example: str, name: str | None = None, **settings: Any
) -> Callable[[Command], Command]:
    """Return a decorator that adds a command to `app`. The command's help ends with the example."""
    return app.command(name, cls=PlainHelp, epilog=f"Example: listenkeys {example}", **settings)


class PlainHelp(TyperCommand):
    """A command whose help names its arguments without Python's types and without braces."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                setattr(parameter, "display_type_rich", lambda ctx: "")  # noqa: B010 - mypy: it is a method

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command's arguments. An error gets the command's context, which the parser leaves out."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if getattr(error, "ctx", ctx) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the help's usage line."""
        return [re.sub(r"^\{(.*)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]


class OneLineErrors(TyperGroup):
    """A group that prints an error as one line on standard error; with --debug, the traceback above it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the group's arguments. `help` as the first word is --help of what follows."""
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]

        def parse() -> list[str]:
            try:
                "".join(args).encode()
            except UnicodeEncodeError:
                raise CliError("an argument is not valid UTF-8") from None
            return super(OneLineErrors, self).parse_args(ctx, args)

        return self._guard(parse)  # type: ignore[no-any-return]

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        return self._guard(lambda: super(OneLineErrors, self).invoke(ctx), debug=ctx.params["debug"])

    def _guard(self, what: Callable[[], Any], debug: bool = False) -> Any:
        try:
            return what()
        except typer.Exit:
            raise
        except BrokenPipeError:
            unread()
            raise typer.Exit(NO_READER) from None
        except EOFError:
            typer.echo("\nlistenkeys: no answer was given: nothing was changed", err=True)
            raise typer.Exit(COULD_NOT) from None
        except Exception as error:
            # Typer's usage errors have format_message. NoArgsIsHelpError only shows the help.
            usage = getattr(error, "format_message", None)
            if usage and type(error).__name__ == "NoArgsIsHelpError":
                raise
            if debug and not usage:
                typer.echo(way_to(error), err=True)
            line = _usage(error, usage()) if usage else explain(error)
            note("listenkeys: " + " ".join(line.split()))
            raise typer.Exit(COULD_NOT) from None


def number(option: str, least: int, most: int, whole: bool = False) -> Callable[[str], float]:
    """Return a parser of this option's value, which raises CliError unless it is from `least` to `most`."""

    def read(text: str) -> float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = -1
        if not least <= value <= most:
            raise CliError(f"{option} must be a {'whole ' * whole}number from {least} to {most}")
        return value

    return read


def _usage(error: Any, text: str) -> str:
    path = error.ctx.command_path if getattr(error, "ctx", None) else "listenkeys"
    option = getattr(error, "option_name", "")
    unknown = type(error).__name__ == "NoSuchOption"
    if unknown and option == "--debug":
        return f"put --debug first: `listenkeys --debug {path.partition(' ')[2]}`"
    if unknown and option in _EVERYWHERE:
        first = "list" if path.endswith(" accounts") else "status"
        return f"put {option} after the command, such as `{path} {first} {option}`"
    if command := re.match(r"No such command '(.*?)'", text):
        word = _OTHER_NAMES.get(command[1], command[1])
        meant = f"accounts {word}" if word in _OF_ACCOUNTS else word
        if word in (*_OF_ACCOUNTS, *_OF_ALL):
            return f"there is no command {command[1]}: did you mean `listenkeys {meant}`?"
    text = re.sub(r"^Got unexpected extra argument\S* \((.*)\)$", r"too many arguments: \1", text.rstrip("."))
    line = f"{text} (see `{path} --help`)"
    if option.startswith("-") and not option.startswith("--") and option != "-h":
        line += "; put -- before an account whose name begins with -"
    return line
