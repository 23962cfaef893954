"""What starting costs: the help of every command, an import of torch beside it, and DVC's share of `dvc repro`.

    python benchmarks/startup.py --runs 5          # the commands
    python benchmarks/startup.py --runs 5 --repro  # and the whole demonstration, in a clone, minutes

DVC's share is the wall time of `dvc repro` less that of the commands it runs, which a shim in front of noisyctl logs.
Writes startup.md to --out.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from noisyctl.cli.commands import COMMANDS

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
SHIM = """#!/bin/sh
start=$(date +%s.%N)
"{real}" "$@"
code=$?
echo "$start $(date +%s.%N) $1" >> "{log}"
exit $code
"""


def wall(*words: str) -> float:
    start = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - start


def commands(runs: int) -> list[str]:
    """Median and spread of `noisyctl X --help`; one run first, uncounted."""
    cases = {"noisyctl --help": (str(BIN / "noisyctl"), "--help")}
    cases |= {f"noisyctl {name} --help": (str(BIN / "noisyctl"), name, "--help") for name in COMMANDS}
    cases |= {
        "noisyctl train-method mixnn --help": (str(BIN / "noisyctl"), "train-method", "mixnn", "--help")
    }
    cases |= {"python -c 'import torch'": (sys.executable, "-c", "import torch")}
    lines = ["| command | seconds, median (min-max) |", "| --- | --- |"]
    for name, words in cases.items():
        wall(*words)
        took = [wall(*words) for _ in range(runs)]
        lines.append(f"| `{name}` | {statistics.median(took):.2f} ({min(took):.2f}-{max(took):.2f}) |")
    return lines


def repro() -> list[str]:
    """The demonstration in a clone: all of it, and what of it is DVC."""
    with tempfile.TemporaryDirectory() as folder:
        clone, log = Path(folder) / "clone", Path(folder) / "log"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        shim = Path(folder) / "bin" / "noisyctl"
        shim.parent.mkdir()
        shim.write_text(SHIM.format(real=BIN / "noisyctl", log=log))
        shim.chmod(0o755)
        path = f"{shim.parent}:{BIN}:{os.environ['PATH']}"
        environment = dict(os.environ) | {"PATH": path, "PYTHONPATH": str(clone), "DVC_NO_ANALYTICS": "1"}
        took = []
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run(["dvc", "repro"], check=True, capture_output=True, cwd=clone, env=environment)
            took.append(time.perf_counter() - start)
        ran = [line.split() for line in log.read_text().splitlines()]
        inside = sum(float(end) - float(begin) for begin, end, _ in ran)
    share = took[0] - inside
    return [
        "",
        f"`dvc repro` of the demonstration: {took[0]:.0f} s for {len(ran)} commands, of which DVC itself {share:.0f} s "
        f"({100 * share / took[0]:.0f} %, {share / len(ran):.1f} s a command); with nothing to do {took[1]:.1f} s.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--repro", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    about = f"`python {' '.join(sys.argv)}`; {os.cpu_count()} cores, Python {platform.python_version()}."
    lines = [about, "", *commands(options.runs), *(repro() if options.repro else [])]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "startup.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
