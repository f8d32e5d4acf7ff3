"""Turns every error of a command into one line, never a traceback."""

import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from .errors import explain, way_to
from .output import plain

COULD_NOT = 2
NO_READER = 141  # as for a program that SIGPIPE ends


class OneLineErrors(TyperGroup):
    """A group that prints an error as one line on standard error; with --debug, the traceback above it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        return self._guard(lambda: super(OneLineErrors, self).parse_args(ctx, args))  # type: ignore[no-any-return]

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        return self._guard(lambda: super(OneLineErrors, self).invoke(ctx), debug=ctx.params["debug"])

    def _guard(self, what: Callable[[], Any], debug: bool = False) -> Any:
        try:
            return what()
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            # Python would fail again when it flushes standard output at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(NO_READER) from None
        except EOFError:
            typer.echo("\nlistenkeys: no answer was given: nothing was changed", err=True)
            raise typer.Exit(COULD_NOT) from None
        except Exception as error:
            # Typer's usage errors. The one that only shows the help is not an error.
            usage = getattr(error, "format_message", None)
            if usage and type(error).__name__ == "NoArgsIsHelpError":
                raise
            if debug:
                typer.echo(way_to(error), err=True)
            line = f"{usage()} (see --help)" if usage else explain(error)
            option = getattr(error, "option_name", "")
            if option.startswith("-") and not option.startswith("--"):
                line += "; put -- before an account whose name begins with -"
            typer.echo("listenkeys: " + plain(" ".join(line.split())), err=True)
            raise typer.Exit(COULD_NOT) from None
