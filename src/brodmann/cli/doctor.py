"""`brodmann doctor`: what this machine has."""

from __future__ import annotations

import typer

from brodmann.cli.common import JSON_HELP, emit, out


def doctor(as_json: bool = typer.Option(False, "--json", help=JSON_HELP)) -> None:
    """Say what machine this is, which versions are installed and where real data lie.

    Example: brodmann doctor --json
    """
    from brodmann.pipeline.environment import describe_machine

    def text(facts: dict) -> None:
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False)
        for key, value in facts.items():
            if isinstance(value, dict):
                value = ", ".join(f"{name} {version}" for name, version in value.items())
            table.add_row(f"[bold]{key.replace('_', ' ')}[/]", str(value))
        out().print(table)

    emit(describe_machine(), as_json, text)
