"""Printing tables: the rows go to stdout, so that `| grep` and `> file` get them; what is said about them to stderr.

Names that come from data are printed without what would steer a terminal.
"""

import shutil
import sys

from noisyctl.evaluation import tables


def show(table: list[list[str]], title: str = "", elsewhere: str = "") -> None:
    """Print a table that a person asked for.

    A terminal that is too narrow gets fewer columns, never a cut cell; `elsewhere` is where all of them are. What goes to a
    file or to another command is whole, with each row on a line of its own.
    """
    left_out: list[str] = []
    on_terminal = sys.stdout.isatty()
    if on_terminal:
        table, left_out = tables.narrowed(table, shutil.get_terminal_size().columns)
    if title:
        print(f"{title}:", file=sys.stderr, flush=True)
    print(tables.as_text(table, broken_titles=on_terminal), flush=True)
    if left_out:
        where = f"; all columns are in {elsewhere}" if elsewhere else ""
        titles = ", ".join(f'"{title}"' for title in left_out)
        print(f"not shown on a terminal of this width: {titles}{where}", file=sys.stderr)


def printable(text: str) -> str:
    """Names come from data: what would steer a terminal is a question mark."""
    return "".join(character if character.isprintable() else "?" for character in text)
