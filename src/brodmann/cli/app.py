"""`brodmann`: mounts the verbs and turns errors into one line and an exit code."""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import version

import click
import typer

from brodmann.cli import data, doctor, predict, recipes, run, score
from brodmann.core import BrodmannError

HELP = """Learn to map brains from microscopy with few labels.

Start here:

  brodmann run demo --out runs/demo            a phantom brain, start to finish\n
  brodmann data check my_sections              every fault of a dataset folder\n
  brodmann run sections --set data.path=my_sections --out runs/mine\n
  brodmann predict runs/mine/model new_sections maps

Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped by Ctrl-C.
"""

app = typer.Typer(
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
app.command("predict")(predict.predict)
app.add_typer(score.app, name="score")
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)


def main(args: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    args = sys.argv[1:] if args is None else args
    debug = "--debug" in args
    # Wherever it stands, it is the same wish.
    args = ["--debug", *(a for a in args if a != "--debug")] if debug else args
    try:
        code = typer.main.get_command(app).main(args, "brodmann", standalone_mode=False)
    except BrodmannError as error:
        if debug:
            traceback.print_exc()
        _say(str(error))
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("stopped; the same command goes on from here")
        code = 130
    except BrokenPipeError:
        code = 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        _say(f"failed: {type(error).__name__}: {error} (--debug shows where)")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _say(line: str) -> None:
    print("brodmann: " + " ".join(line.split()), file=sys.stderr)
