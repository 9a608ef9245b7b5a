"""The ``smolrgpt`` command. Results go to stdout, everything else to stderr; exit codes: 0 done, 2 bad usage or input, 1 failure.

Nothing heavy is imported before a command needs it, so that help is instant and scoring needs no torch.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from smolrgpt.cli import ask, convert, data, evaluate, serve, train

app = typer.Typer(
    help="Answers questions about marked regions of an RGB-D image; trains, scores and draws data for the model that does it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    ask.ask,
    data.synth,
    evaluate.evaluate,
    evaluate.robustness,
    ask.predict,
    evaluate.extract,
    evaluate.score,
    train.train,
    train.ablate,
    convert.export,
    convert.convert,
    serve.demo,
    serve.serve,
    ask.tour,
):
    app.command()(command)
app.add_typer(data.app, name="data")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (``sys.argv`` when ``arguments`` is None) and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in given  # at any position, so that it can be appended to a command that failed
    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    try:
        app(args=[argument for argument in given if argument != "--verbose"], prog_name="smolrgpt")
    except (Exception, KeyboardInterrupt) as error:
        if verbose:
            traceback.print_exc()
        print(f"error: {_message(error)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, (ValueError, OSError)) else 1)


def _log_to_stderr(level: int) -> None:
    """Write this package's log to stderr as plain lines, in place of the handler of an earlier call; other loggers stay as they are."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("smolrgpt")
    logger.handlers = [handler]
    logger.setLevel(level)


def _message(error: BaseException) -> str:
    """Describe an error in one line. Errors of this package explain themselves; of others, the type is named too."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, (ValueError, ImportError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text} (--verbose shows where)"


def _show_version(value: bool) -> None:
    if value:
        from smolrgpt import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more, and show a traceback when something fails.")] = False,
) -> None:
    """Options of the command as a whole; ``main`` reads ``--verbose`` itself."""
