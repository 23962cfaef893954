"""docs/coverage.md: for each printed number of the papers the cell and metric here, or why there is none.

python docs/make_coverage.py
"""

from collections import Counter
from pathlib import Path

from noisyctl.papers import printed

HERE = Path(__file__).parent


def page() -> str:
    """The page as text."""
    found = [printed.load(name) for name in printed.names()]
    numbers = [number for paper in found for number in paper.numbers]
    runnable = [number for number in numbers if number.missing is None]
    lines = [
        "# Coverage of the printed numbers",
        "",
        "<!-- made by `python docs/make_coverage.py`; a test keeps it in step -->",
        "",
        f"The result tables of the five papers print {len(numbers)} numbers. {len(runnable)} of them are a cell of",
        "`noisyctl plan PAPER` and a metric of its evaluation; the others have the reason beside them. A cell that can be",
        "run has not been run for that: what has been measured is in [results.md](results.md).",
        "",
        "| paper | table | printed | with a cell | without |",
        "| --- | --- | --- | --- | --- |",
    ]
    for paper in found:
        for table in dict.fromkeys(name.split(" ")[0] for name in paper.table_names()):
            of = paper.of_tables([table])
            cells = sum(number.missing is None for number in of)
            title = paper.tables.get("paper")
            lines.append(f"| {title} | {table} | {len(of)} | {cells} | {len(of) - cells} |")
    lines.append(f"| all | | {len(numbers)} | {len(runnable)} | {len(numbers) - len(runnable)} |")
    lines += ["", "## Without a cell", "", "| reason | numbers | papers |", "| --- | --- | --- |"]
    reasons = Counter(number.missing for number in numbers if number.missing)
    for reason, count in sorted(reasons.items(), key=lambda one: (-one[1], str(one[0]))):
        where = sorted({n.printed.paper for n in numbers if n.missing == reason})
        lines.append(f"| {reason} | {count} | {', '.join(where)} |")
    lines += ["", "## Rows and metrics", "", "What a table calls a method, and what runs for it.", ""]
    for paper in found:
        lines += [
            f"### {paper.tables.get('paper')}",
            "",
            "| table | method | row | metrics |",
            "| --- | --- | --- | --- |",
        ]
        rows: dict[tuple[str, str], list[printed.Number]] = {}
        for number in paper.numbers:
            if number.missing is None:
                key = (number.printed.table, number.printed.method)
                rows.setdefault(key, []).append(number)
        for (table, method), of in rows.items():
            names = ", ".join(sorted({f"`{number.row}`" for number in of}))
            metrics = ", ".join(sorted({f"`{number.metric}`" for number in of}))
            lines.append(f"| {table} | {method} | {names} | {metrics} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (HERE / "coverage.md").write_text(page())
