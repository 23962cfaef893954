"""Printing tables: the rows go to stdout, so that `| grep` and `> file` get them; what is said about them to stderr.

Names that come from data are printed without what would steer a terminal.
"""

import re
import shutil
import sys
import textwrap
from collections.abc import Container
from dataclasses import dataclass

# what a narrow terminal does without, the first of these first; method, data set and the numbers themselves always stay
DISPENSABLE = (
    *(
        "deviations",
        "hardware",
        "budget",
        "gap best - last",
        "last, balanced",
        "metric",
        "measured noise",
        "selection",
    ),
    *("recall", "detection precision", "best on refined validation", "best on noisy validation", "measured"),
    *("best on test (oracle)", "seeds", "AUC", "noise nominal", "memory GB", "backward"),
)
FACTS = (  # columns that say what a row is, and are no result
    *(
        "data set",
        "noise nominal",
        "measured",
        "measured noise",
        "metric",
        "selection",
        "seeds",
        "budget",
        "hardware",
    ),
    "deviations",
)
GAP = "  "  # between the columns of a text
PADDING = 2  # that tabulate adds to a title


@dataclass(frozen=True)
class Narrowed:
    """A table that fits a terminal: what all rows have in common is taken out of it, and so is what did not fit."""

    table: list[list[str]]
    common: dict[str, str]
    left_out: list[str]


def show(table: list[list[str]], title: str = "", elsewhere: str = "") -> None:
    """Print a table that a person asked for.

    A terminal that is too narrow gets fewer columns, never a cut cell: what is the same in all rows is told once, and what
    still does not fit is named. `elsewhere` is where all columns are. What goes to a file or to another command is whole,
    with each row on a line of its own.
    """
    on_terminal = sys.stdout.isatty()
    if title:
        print(f"{title}:", file=sys.stderr, flush=True)
    if not on_terminal:
        print(as_text(table), flush=True)
        return
    found = narrowed(table, shutil.get_terminal_size().columns)
    if found.common:
        told = ", ".join(f"{name} {value}" for name, value in found.common.items())
        print(f"the same in all rows: {told}", file=sys.stderr, flush=True)
    print(as_text(found.table, broken_titles=True), flush=True)
    if found.left_out:
        where = f"; all columns are in {elsewhere}" if elsewhere else ""
        titles = ", ".join(f'"{title}"' for title in found.left_out)
        print(f"not shown on a terminal of this width: {titles}{where}", file=sys.stderr)


def narrowed(table: list[list[str]], width: int) -> Narrowed:
    """The table without what does not fit into `width` characters.

    First the FACTS that several rows have in common are told beside it, then the columns of DISPENSABLE are left out, in
    their order. A title may be broken between words, a cell may not. What is left may still be wider.
    """
    head, *rows = table
    common: dict[str, str] = {}
    if _width(table) > width and len(rows) > 1:
        columns = dict(zip(head, zip(*rows, strict=True), strict=True))
        common = {name: columns[name][0] for name in head if name in FACTS and len(set(columns[name])) == 1}
    left_out: list[str] = []
    kept = _without(table, common)
    for title in DISPENSABLE:
        if _width(kept) <= width:
            break
        left_out += [title] if title in kept[0] else []
        kept = _without(kept, [title])
    return Narrowed(kept, common, left_out)


def _without(table: list[list[str]], titles: Container[str]) -> list[list[str]]:
    places = [i for i, title in enumerate(table[0]) if title not in titles]
    return [[row[i] for i in places] for row in table]


def _width(table: list[list[str]]) -> int:
    """The width of a text with broken titles."""
    widths = _widths(table)
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _widths(table: list[list[str]]) -> list[int]:
    """Of each column: as wide as its widest cell and the longest word of its title."""
    head, *rows = table
    return [
        max([len(word) + PADDING for word in title.split()] + [len(row[i]) for row in rows])
        for i, title in enumerate(head)
    ]


def as_text(table: list[list[str]], *, broken_titles: bool = False) -> str:
    """The table for people, one line per row. With `broken_titles` a title may take several lines."""
    from tabulate import tabulate

    titles, *rows = table
    if broken_titles:
        widths = [width - PADDING for width in _widths(table)]
        titles = [
            "\n".join(textwrap.wrap(t, w, break_long_words=False))
            for t, w in zip(titles, widths, strict=True)
        ]
    return tabulate(rows, titles, tablefmt="simple", disable_numparse=True, colalign=_alignment(table))


def _alignment(table: list[list[str]]) -> tuple[str, ...]:
    """Numbers to the right, words to the left, as the cells of each column are."""
    head, *rows = table
    number = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?( ± [\d.]+)?|-|")
    right = [all(number.fullmatch(row[i]) for row in rows) for i in range(len(head))]
    return tuple("right" if one else "left" for one in right)


def printable(text: str) -> str:
    """Names come from data: what would steer a terminal is a question mark."""
    return "".join(character if character.isprintable() else "?" for character in text)
