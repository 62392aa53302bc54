"""The command group: commands loaded when used, every error one line with a hint.

Exit codes: 0 done; 2 the user can mend it (usage, bad file, model that does not fit); 1 a bug in rnngraph;
130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from rnngraph import __version__
from rnngraph.errors import RnngraphError

# name -> what it does. The command is `command` of the module rnngraph.cli.<name>_command, loaded on use, so
# that `rnngraph --help` starts without numpy.
COMMANDS: dict[str, str] = {
    "demo": "Pronounce words with a trained GRU encoder and decoder.",
    "compile": "Compile a model; report what was fused, merged and selected, and why.",
    "run": "Compile a model and run it on .npy arrays.",
    "inspect": "List a model's recurrences, and what the raising and merging passes say of them.",
    "export": "Write a model as ONNX, for other runtimes.",
    "convert": "Recurrent weights from one system's layout to another's, file to file.",
    "opt": "Text IR in, a pipeline of passes, text IR out.",
    "doctor": "Show the machine, the backends, and how to get what is missing.",
}


class Commands(click.Group):
    """Looks a command up in COMMANDS and imports its module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"rnngraph.cli.{cmd_name}_command").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(version)s", help="Print the version.")
@click.option("--traceback", is_flag=True, expose_value=False,
              help="Show Python's traceback with an error; may stand anywhere on the line.")
def commands() -> None:
    """A compiler for recurrent neural networks, with every pass visible.

    A MODEL is a model in a Python file (model.py:name), a graph in text form (model.rg), or a file of another system
    (.onnx, .h5, .hdf5, .keras, -symbol.json).
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's); returns the exit code and never raises."""
    args = list(sys.argv[1:] if argv is None else argv)
    full = "--traceback" in args
    args = [a for a in args if a != "--traceback"]
    try:
        code = commands.main(args, prog_name="rnngraph", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.format_message(), err=True)
        return 2
    except click.UsageError as e:
        where = e.ctx.command_path if e.ctx else "rnngraph"
        return _fail(f"{one_line(e.format_message())} (see: {where} --help)", 2, full)
    except click.ClickException as e:
        return _fail(one_line(e.format_message()), 2, full)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130, full)
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RnngraphError as e:
        return _fail(one_line(str(e)), 2, full)
    except OSError as e:
        return _fail(f"{e.filename}: {e.strerror}" if e.filename else str(e), 2, full)
    except Exception as e:  # a bug: say so in one line all the same
        hint = "" if full else "; this is a bug in rnngraph, --traceback shows where"
        return _fail(f"{type(e).__name__}: {one_line(str(e))}{hint}", 1, full)


def one_line(message: str) -> str:
    return " ".join(message.split())


def _fail(message: str, code: int, full: bool) -> int:
    if full:
        traceback.print_exc()
    click.echo(f"rnngraph: error: {message}", err=True)
    return code
