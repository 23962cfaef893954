"""`--help` waits for nothing heavy: which modules it imports. benchmarks/startup.py measures the time."""

import subprocess
import sys

from noisyctl.cli.commands import COMMANDS
from noisyctl.methods import available

HEAVY = (
    "torch",
    "torchvision",
    "zarr",
    "dvc",
    "sklearn",
    "faiss",
    "pandas",
    "scipy",
    "matplotlib",
    "PIL",
    "numpy",
    "jaxtyping",
)
ASK = """
import contextlib, io, sys
from noisyctl.cli.main import main
for words in sys.stdin.read().splitlines():
    sys.argv = ["noisyctl", *words.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        main()
    assert "Usage" in shown.getvalue(), words
    print(words, *(name for name in {heavy} if name in sys.modules), sep=",")
"""


def test_help_imports_nothing_heavy() -> None:
    """In one process, one command after the other: a module that is there stays there."""
    asked = ["", *COMMANDS, f"train-method {available()[0]}"]
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(heavy=HEAVY)],
        input="\n".join(asked),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers = [line.split(",") for line in done.stdout.splitlines()]
    assert [answer[0] for answer in answers] == asked
    guilty = next((answer for answer in answers if answer[1:]), None)
    assert guilty is None, f"noisyctl {guilty[0]} --help imports {', '.join(guilty[1:])}"  # type: ignore[index]
