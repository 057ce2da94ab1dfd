"""`brodmann augment METHOD | replay | compare | placement`: more training data out of little."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer
import typer.core

from brodmann.augment.base import AUGMENTATIONS, make_augmentation
from brodmann.cli.common import JSON_HELP, emit, out, progress
from brodmann.cli.data import LAYOUT_HELP, SPACING_HELP
from brodmann.core import RecipeError, nearest

EXPAND = "METHOD"


class Methods(typer.core.TyperGroup):
    """Commands of its own, and one for every augmentation that is registered."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*(name for name in self.commands if name != EXPAND), *AUGMENTATIONS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in AUGMENTATIONS:
            return super().get_command(ctx, cmd_name)
        from brodmann.report.methods import describe_method

        command = copy.copy(self.commands[EXPAND])
        command.name = cmd_name
        summary = describe_method(cmd_name)["summary"]
        command.short_help = summary
        command.help = f"{summary}\n\n{command.help}".replace(EXPAND, cmd_name)
        command.rich_help_panel = "Methods"
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            raise RecipeError(
                "no such augmentation", found=repr(args[0]), fix=nearest(args[0], known)
            )
        return super().resolve_command(ctx, args)


class Method(typer.core.TyperCommand):
    """One augmentation; its help ends with its options."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        from brodmann.report.methods import describe_method

        _described([describe_method(str(ctx.info_name))], "Options for --set")


app = typer.Typer(cls=Methods, invoke_without_command=True, no_args_is_help=True)
DATASET = typer.Argument(
    metavar="DATASET", help="A dataset in any layout that `data convert` reads."
)
SETTINGS = typer.Option(
    [], "--set", metavar="KEY=VALUE", help="An option of the method; may be given often."
)


@app.callback()
def augment(
    ctx: typer.Context,
    listed: bool = typer.Option(False, "--list", help="List every method's options and defaults."),
    as_json: bool = typer.Option(False, "--json", help="With --list: " + JSON_HELP),
) -> None:
    """Write a dataset with augmented copies, make one again, or look at what methods do.

    Example: brodmann augment prmix my_sections my_sections-x20 --factor 20 --set sources=3

    Each method's options: brodmann augment prmix --help
    """
    from brodmann.report.methods import describe_methods

    if listed:
        emit({"methods": describe_methods()}, as_json, lambda told: _described(told["methods"]))
    elif ctx.invoked_subcommand is None:
        raise RecipeError("which method?", fix="brodmann augment --list shows them")


@app.command(EXPAND, cls=Method, hidden=False)
def expand(
    ctx: typer.Context,
    path: Path = DATASET,
    folder: Path = typer.Argument(metavar="OUT", help="A new folder, or one this call has begun."),
    factor: int = typer.Option(5, min=1, help="Copies of each sample; the paper takes 5, 10, 20."),
    seed: int = typer.Option(0, "--seed", min=0, help="Every draw follows from it."),
    split: str = typer.Option("train", help="The split to expand, and to take partners from."),
    settings: list[str] = SETTINGS,
    workers: int = typer.Option(
        0, "--workers", min=0, help="Threads that make pictures; changes no byte."
    ),
    contact: bool = typer.Option(
        True, "--contact/--no-contact", help="Draw OUT/contact.png, a few copies beside targets."
    ),
    layout: str = typer.Option(None, "--from", help=LAYOUT_HELP),
    spacing: str = typer.Option(None, help=SPACING_HELP),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Write a dataset folder with augmented copies of one split.

    OUT holds every sample as it was, the copies, and the provenance of each. Other splits stay
    as they are. Stopped, the same command goes on and ends with the same bytes.

    Example: brodmann augment METHOD my_sections expanded --factor 20
    """
    from brodmann.augment.expand import expand as expand_dataset
    from brodmann.report.contact import save_contact
    from brodmann.report.expansion import Expansion

    method = make_augmentation(str(ctx.info_name), parsed(settings))
    dataset = _opened(path, layout, spacing)
    with progress() as report:
        expand_dataset(
            dataset,
            method,
            folder,
            factor=factor,
            seed=seed,
            split=split,
            workers=workers,
            progress=report,
        )
        expansion = Expansion.read(folder)
        result = expansion.summary()
        sheet = folder / "contact.png"
        result["contact"] = save_contact(expansion, sheet, report=report) if contact else None
    emit(result, as_json, _expanded)


def _expanded(result: dict) -> None:
    _line(
        f"{result['dataset']}: {result['method']} made {result['made']} images of "
        f"{result['targets']} in split {result['split']}, {result['skipped']} skipped",
        "bold",
    )
    for reason, count in result["reasons"].items():
        _line(f"  {count:>5}  {reason}", "dim")
    _line(f"folder   {result['path']} ({result['samples']} samples, a dataset like any other)")
    if result["contact"]:
        _line(f"look at  {result['contact']['path']}")
        for target, copies in result["contact"]["samples"].items():
            short = ", ".join(name.removeprefix(f"{target}-") for name in copies)
            _line(f"           {target}: {short}", "dim")


@app.command()
def replay(
    record: Path = typer.Argument(help="provenance/NAME.json of an expansion."),
    path: Path = DATASET,
    folder: Path = typer.Argument(metavar="OUT", help="Gets images/NAME.tif, labels/NAME.tif."),
    layout: str = typer.Option(None, "--from", help=LAYOUT_HELP),
    spacing: str = typer.Option(None, help=SPACING_HELP),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Make one copy again from its provenance, and compare it with the expansion's.

    Exits 1 if the bytes differ.

    Example: brodmann augment replay expanded/provenance/s01-prmix-003.json my_sections again
    """
    from brodmann.report.expansion import replay_into

    result = replay_into(record, _opened(path, layout, spacing), folder)
    emit(result, as_json, _replayed)
    if any(file["same"] is False for file in result["files"].values()):
        raise typer.Exit(1)


def _replayed(result: dict) -> None:
    words = {
        True: "same bytes as in the expansion",
        False: "DIFFERS from the expansion",
        None: "made; the expansion no longer holds it",
    }
    for name, file in result["files"].items():
        _line(f"{result['path']}/{name}: {words[file['same']]}")
        _line(f"  sha256 {file['sha256']}", "dim")
        if file["same"] is False:
            _line(f"     not {file['expansion']}", "dim")


@app.command()
def compare(
    path: Path = DATASET,
    figure: Path = typer.Argument(metavar="FIGURE", help=".png, .pdf or .svg."),
    target: str = typer.Option(None, help="A sample.", show_default="the split's first"),
    source: str = typer.Option(None, help="Another.", show_default="the split's second"),
    methods: str = typer.Option(
        "mixup,cutmix,carvemix,prmix", help="Which to draw; `translate` is trained first."
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="METHOD.KEY=VALUE", help="An option of one of the methods."
    ),
    seed: int = typer.Option(0, "--seed", min=0, help="Another seed draws other pictures."),
    split: str = typer.Option("train", help="Where the samples are taken from."),
    layout: str = typer.Option(None, "--from", help=LAYOUT_HELP),
    spacing: str = typer.Option(None, help=SPACING_HELP),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Draw one pair of samples under every method, with the changed part enlarged.

    Example: brodmann augment compare my_sections methods.png --target s01 --source s07
    """
    from brodmann.report.compare import save_comparison

    with progress() as report:
        result = save_comparison(
            _opened(path, layout, spacing),
            figure,
            target=target,
            source=source,
            methods=[name.strip() for name in methods.split(",")],
            options=_by_method(parsed(settings)),
            seed=seed,
            split=split,
            report=report,
        )
    emit(result, as_json, lambda r: _line(f"{r['target']} and {r['source']}: {r['path']}"))


@app.command()
def placement(
    record: Path = typer.Argument(help="provenance/NAME.json of a prmix expansion."),
    path: Path = DATASET,
    figure: Path = typer.Argument(metavar="FIGURE", help=".png, .pdf or .svg."),
    region: str = typer.Option(
        None, help="Acronym of a pasted region.", show_default="the one that gained most"
    ),
    layout: str = typer.Option(None, "--from", help=LAYOUT_HELP),
    spacing: str = typer.Option(None, help=SPACING_HELP),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Draw what one region of a prmix copy covered before and after it was placed.

    Example: brodmann augment placement x/provenance/s01-prmix-003.json my_sections th.png
    """
    from brodmann.report.placement import save_placement

    result = save_placement(record, _opened(path, layout, spacing), figure, region=region)

    def text(r: dict) -> None:
        _line(
            f"{r['region']} of {r['source']}: {r['overlap_before']} of {r['area']} pixels cover "
            f"others as drawn, {r['overlap_after']} as placed: {r['path']}"
        )

    emit(result, as_json, text)


def parsed(settings: list[str]) -> dict[str, Any]:
    """Options as they are typed, the values as YAML.

    >>> parsed(["sources=3", "tau=1e-3", "scale=[0.9, 1.1]"])
    {'sources': 3, 'tau': 0.001, 'scale': [0.9, 1.1]}
    """
    import yaml

    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError("an option is written key=value", "--set", repr(setting))
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise RecipeError("the value is no YAML", f"--set {key}", repr(text)) from None
        if isinstance(value, str):
            with suppress(ValueError):
                value = float(value)  # YAML takes 1e-3 for text.
        options[key.strip()] = value
    return options


def _by_method(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """method.key: value -> method: {key: value}."""
    grouped: dict[str, dict[str, Any]] = {}
    for name, value in options.items():
        method, dot, key = name.partition(".")
        if not dot:
            raise RecipeError(
                "say whose option it is", "--set", repr(name), f"write prmix.{name}=..."
            )
        grouped.setdefault(method, {})[key] = value
    return grouped


def _opened(path: Path, layout: str | None, spacing: str | None) -> Any:
    from brodmann.datasets.convert import open_dataset
    from brodmann.datasets.convert.layouts import numbers

    return open_dataset(path, layout, numbers(spacing))


def _described(methods: list[dict], title: str | None = None) -> None:
    import json

    from rich.table import Table
    from rich.text import Text

    for method in methods:
        if title is None:
            _line(f"\n{method['name']}", "bold")
            _line(method["summary"])
        table = Table("option", "default", "meaning", title=title, box=None, title_justify="left")
        for option in method["options"]:
            default = json.dumps(option["default"]).strip('"')
            table.add_row(Text(option["name"], "bold"), Text(default), Text(option["meaning"]))
        if method["options"]:
            out().print(table)
        elif title is not None:
            _line(" It takes no options.")


def _line(words: str, style: str | None = None) -> None:
    out().print(words, style=style, markup=False, soft_wrap=True)
