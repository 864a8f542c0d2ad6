"""The command line: one file per verb."""

from __future__ import annotations

import sys

from unstuck.errors import UnstuckError

PYTHON_STYLE = {"-m", "-c"}


def app():
    """The typer application."""
    import typer

    from unstuck import __version__
    from unstuck.cli.compare import compare
    from unstuck.cli.demo import demo
    from unstuck.cli.derive import derive
    from unstuck.cli.diagnose import diagnose
    from unstuck.cli.explain import explain
    from unstuck.cli.fix import fix
    from unstuck.cli.open import open_
    from unstuck.cli.report import report
    from unstuck.cli.rules import rules
    from unstuck.cli.run import run
    from unstuck.cli.value import value
    from unstuck.cli.verify import verify

    cli = typer.Typer(
        name="unstuck", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Says that a classifier's training is stuck, why, and what to change.",
    )  # fmt: skip

    def version(asked: bool) -> None:
        if asked:
            print(f"unstuck {__version__}")
            raise typer.Exit

    @cli.callback()
    def main(
        version: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
    ) -> None:
        pass

    cli.command(
        context_settings={
            "allow_interspersed_args": False,
            "ignore_unknown_options": False,
            "help_option_names": ["-h", "--help"],
        }
    )(run)
    cli.command()(diagnose)
    cli.command()(fix)
    cli.command()(verify)
    cli.command()(report)
    cli.command(name="open")(open_)
    cli.command()(compare)
    cli.command()(value)
    cli.command()(explain)
    cli.command()(rules)
    cli.command()(derive)
    cli.add_typer(demo, name="demo")
    return cli


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `unstuck` command. Errors of ours are one line on standard error and their exit code."""
    arguments = protect(sys.argv[1:] if arguments is None else arguments)
    try:
        app()(arguments, prog_name="unstuck")
    except UnstuckError as error:
        print(f"unstuck: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def protect(arguments: list[str]) -> list[str]:
    """After `-m module` and `-c code` everything belongs to the target, as it does for python itself.

    `--verify` may stand alone or before a budget; the word after it is one only where it looks like one.
    """
    if not arguments or arguments[0] != "run":
        return arguments
    from unstuck.cli.verify import DEFAULT, is_budget

    arguments = list(arguments)
    takes_value = {"-o", "--output", "--steps", "--trace", "--fail-on"}
    position = 1
    while position < len(arguments):
        word = arguments[position]
        if word in PYTHON_STYLE:
            return [*arguments[: position + 2], "--", *arguments[position + 2 :]]
        if not word.startswith("-") or word == "--":
            break
        if word == "--verify":
            following = arguments[position + 1] if position + 1 < len(arguments) else ""
            budget = arguments.pop(position + 1) if is_budget(following) else DEFAULT
            arguments[position] = f"--verify={budget}"
        position += 2 if word in takes_value else 1
    return arguments
