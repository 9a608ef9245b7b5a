"""Fill the page of the command line with the help of every command, so that the page and the program cannot disagree."""

from __future__ import annotations

from typing import Any

PLACEHOLDER = "<!-- every command -->"


def on_page_markdown(markdown: str, **options: Any) -> str:
    """Replace the placeholder by what ``typer utils docs`` would write; other pages stay as they are."""
    if PLACEHOLDER not in markdown:
        return markdown
    import typer
    from typer.cli import get_docs_for_click

    from smolrgpt.cli.main import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="smolrgpt")
    commands = text.partition("\n\n")[2]  # the page has its own title
    return markdown.replace(PLACEHOLDER, commands)
