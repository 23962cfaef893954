"""docs/sharing.md, command by command, between two people with a folder as the remote."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PIPELINE = """
stages:
  one:
    cmd: echo ran >> ran.txt && cat in.txt > out.txt && cat in.txt > metrics.json
    deps: [in.txt]
    outs: [out.txt]
    metrics:
      - metrics.json:
          cache: false
"""


def blocks(page: str) -> list[list[str]]:
    """The commands of a page, block by block."""
    found: list[list[str]] = [[]]
    for line in page.splitlines():
        if line.startswith("    "):
            found[-1].append(line.strip())
        elif found[-1]:
            found.append([])
    return [block for block in found if block]


def test_what_one_person_computed_and_pushed_nobody_else_computes(tmp_path: Path) -> None:
    mine, yours, shelf = tmp_path / "mine", tmp_path / "yours", tmp_path / "shelf"
    mine.mkdir()
    for name in ("noisyctl", "stages"):
        shutil.copytree(ROOT / name, mine / name, ignore=shutil.ignore_patterns("__pycache__"))
    (mine / ".gitignore").write_text("/plans/\n/data/\n/.noisyctl/\n/ran.txt\n__pycache__\n")
    (mine / "dvc.yaml").write_text(PIPELINE)
    (mine / "in.txt").write_text('{"accuracy": 1}\n')

    def call(line: str, folder: Path = mine) -> str:
        line = line.replace("/srv/noisyctl", str(shelf)).replace("--table 2", "--table 2 --budget smoke")
        line = line.replace("gc --workspace", "gc --force --workspace")
        about = {"PYTHONPATH": str(folder), "NOISYCTL_SCRATCH": ".noisyctl", "DVC_NO_ANALYTICS": "1"}
        about |= {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        about["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            line, shell=True, cwd=folder, capture_output=True, text=True, env=os.environ | about
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    remote, push, pull, push_plan, pull_plan, collect = blocks((ROOT / "docs/sharing.md").read_text())
    for line in ("git init -q", "dvc init -q", "git add .", "git commit -qm begin", *remote, "dvc repro"):
        call(line)
    call("git add metrics.json dvc.lock out.txt.dvc .gitignore || true")
    for line in push:
        call(line)
    call("git add -A && git commit -qm metrics || true")
    call(f"git clone -q {mine} {yours}", tmp_path)
    for line in pull:
        call(line, yours)
    assert (yours / "out.txt").read_text() == '{"accuracy": 1}\n' == (yours / "metrics.json").read_text()
    assert not (yours / "ran.txt").exists()  # nothing was computed

    call(push_plan[0])
    assert json.loads(call("noisyctl sweep two_stage --json"))["ran"] == 6
    call(push_plan[1])
    for line in pull_plan[:-1]:
        call(line, yours)
    said = call(pull_plan[-1], yours)
    assert said.count("is cached - skipping run") == 6 and "Running stage" not in said
    table = "data/smoke/papers/two_stage/tables/table-2.csv"
    assert (yours / table).read_bytes() == (mine / table).read_bytes()

    for line in collect:
        call(line)
    shutil.rmtree(mine / "data/smoke")
    call("dvc --cd plans checkout")
    assert (mine / table).exists()
