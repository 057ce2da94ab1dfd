"""`brodmann`: mounts the verbs and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import typer
import typer.core

from brodmann.cli import (
    annotate,
    atlas,
    augment,
    bench,
    data,
    doctor,
    measure,
    neurons,
    predict,
    recipes,
    run,
    score,
    shapes,
    view,
)
from brodmann.cli.map import map_brain
from brodmann.core import BrodmannError

HELP = """Learn to map brains from microscopy with few labels.

Start here:

  brodmann run demo --out runs/demo            a phantom brain, start to finish\n
  brodmann data check my_sections              every fault of a dataset folder\n
  brodmann run sections --set data.path=my_sections --out runs/mine\n
  brodmann augment prmix my_sections more      a dataset with mixed copies\n
  brodmann predict runs/mine/model new_sections maps\n
  brodmann run neurons-phantom                 neurons, image to segments\n
  brodmann bench check                         benchmark tasks that prove themselves

Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped by Ctrl-C.
"""

USAGE = typer.BadParameter.__bases__[0]
"""Wrong words on the command line, which typer itself explains (its click may be its own)."""


@contextmanager
def _trace(wanted: bool) -> Iterator[None]:
    try:
        yield
    except (typer.Exit, typer.Abort, USAGE):
        raise
    except BaseException:
        if wanted:
            traceback.print_exc()
        raise


class Verbs(typer.core.TyperGroup):
    """Turns what goes wrong in a verb into one line on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with _trace(ctx.params["debug"]):
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort, USAGE):
            raise
        except BrokenPipeError:
            # Whoever reads, `head` say, has seen enough; nor may Python flush to it at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            line, code = "stopped; the same command goes on from here", 130
        except BrodmannError as error:
            line, code = str(error), 2
        except Exception as error:
            line, code = f"failed: {type(error).__name__}: {error} (--debug shows where)", 1
        print("brodmann: " + " ".join(line.split()), file=sys.stderr)
        raise typer.Exit(code)


app = typer.Typer(
    cls=Verbs,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(version("brodmann"))
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the whole trace of an error."),
    show_version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


app.command("recipes")(recipes.recipes)
app.command("run")(run.run)
app.add_typer(augment.app, name="augment")
app.command("predict")(predict.predict)
app.command("neurons")(neurons.neurons)
app.command("map")(map_brain)
app.command("shapes")(shapes.shapes)
app.add_typer(score.app, name="score")
app.add_typer(measure.app, name="measure")
app.add_typer(annotate.app, name="annotate")
app.add_typer(atlas.app, name="atlas")
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.command("view")(view.view)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line; leaves with its exit code."""
    args = sys.argv[1:]
    if "--debug" in args:
        # Wherever it stands, it is the same wish.
        args = ["--debug", *(arg for arg in args if arg != "--debug")]
    app(args, prog_name="brodmann")
