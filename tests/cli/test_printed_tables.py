"""Tables on stdout: whole rows for other commands, whole cells for a terminal of 100 columns."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from noisyctl.artifacts import metrics

ROOT = Path(__file__).parent.parent.parent
NOISYCTL = str(Path(sys.executable).with_name("noisyctl"))
WORDS = [NOISYCTL, "table", "--metrics", "metrics.json", "--out", "t.md"]


def written(folder: Path) -> dict[str, str]:
    """Metrics of two methods over two seeds, and the environment of a command that reads them."""
    run = {
        "measured_noise": 0.631,
        "nominal_noise": 0.6,
        "detection": {"precision": 0.9, "recall": 0.8, "auc": 0.7},
    }
    accuracy = dict.fromkeys(("last", "mean_last_10", "best_on_test_oracle", "gap_best_last"), 90.0)
    runs = {
        f"{name}/sym60-s{seed}": run
        | {"method": name, "test_accuracy": {k: v + seed for k, v in accuracy.items()}}
        for name in ("dividemix", "cross_entropy")
        for seed in (0, 1)
    }
    metrics.write(folder / "metrics.json", {"runs": runs})
    return dict(os.environ) | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}


def test_grep_finds_a_method_in_one_whole_line(tmp_path: Path) -> None:
    done = subprocess.run(
        WORDS, cwd=tmp_path, env=written(tmp_path), capture_output=True, text=True, check=True
    )
    (line,) = [line for line in done.stdout.splitlines() if "dividemix" in line]
    assert "90.50 ± 0.71" in line and "0.700 ± 0.000" in line  # the last column too
    assert "dividemix" not in done.stderr


def test_a_terminal_of_100_columns_shows_whole_names(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        WORDS,
        cwd=tmp_path,
        env=written(tmp_path),
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    os.close(theirs)
    lines = os.read(ours, 10**6).decode().splitlines()
    os.close(ours)
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if "sym" not in line][-2:] == ["cross_entropy", "dividemix"]
    assert 'not shown on a terminal of this width: "gap best - last"' in done.stderr
    assert "all columns are in t.csv" in done.stderr
