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
        from rich.text import Text

        console, width = out(), max(map(len, facts)) + 2
        for key, value in facts.items():
            if isinstance(value, dict):
                value = ", ".join(f"{name} {version}" for name, version in value.items())
            name = f"{key.replace('_', ' '):<{width}}"
            console.print(Text.assemble((name, "bold"), str(value)), soft_wrap=True)

    emit(describe_machine(), as_json, text)
