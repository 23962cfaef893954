"""The commands of review on a result of clean: report, why, apply, revert, audit, export."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import folders
import pytest
from test_decisions import rows_of, write

from noisyctl.artifacts import csv_files
from noisyctl.cli import main
from noisyctl.review import result

NOISYCTL = (sys.executable, "-c", "from noisyctl.cli.main import main; main()")


def call(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | {"NO_COLOR": "1", "NOISYCTL_SCRATCH": str(cwd / ".scratch")}
    done = subprocess.run(
        [*NOISYCTL, *map(str, words)], cwd=cwd, capture_output=True, text=True, env=environment
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def listed(tmp_path: Path) -> result.Result:
    return folders.make(tmp_path)


def test_from_the_report_to_cleaned_labels_and_back(listed: result.Result, tmp_path: Path) -> None:
    done = call("report", "--result", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "24 photos in out/report.html; open it in a browser" in done.stderr
    write(tmp_path / "a.csv", rows_of(listed))
    other = rows_of(listed)
    other[1][3:5] = ["drop", ""]
    write(tmp_path / "b.csv", other)
    before = folders.tree(tmp_path)
    words = ("apply", "a.csv", "b.csv", "--result", "out", "--out", "cleaned", "--as", "links")
    done = call(*words, "--strict", cwd=tmp_path)
    assert (done.returncode, folders.tree(tmp_path)) == (3, before)
    assert "the reviewers differ on 1 photos" in done.stderr
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "23 photos in cleaned/manifest.csv: 1 labels changed, 0 confirmed, 1 photos dropped" in done.stderr
    assert "a.csv and b.csv agree on 2 of 3 photos, Cohen's kappa" in done.stderr
    assert "they are in cleaned/conflicts.csv" in done.stderr
    found = json.loads(call(*words, "--json", cwd=tmp_path).stdout)
    assert (found["conflicts"], found["reviewers"]) == (1, 2)
    done = call(
        "prepare-data", "--dataset", "folder", "--root", "photos", "--manifest", "cleaned/manifest.csv",
        "--verified-manifest", "cleaned/verified.csv", "--out", "data", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/verified.zarr").is_dir()
    done = call("revert", "cleaned", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = {
        name: what
        for name, what in folders.tree(tmp_path).items()
        if name.split("/")[0] not in ("data", ".scratch")
    }
    assert after == before


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["apply", "d.csv", "--result", "out"], 2, "--out"),
        (["apply", "d.csv", "--result", "photos", "--out", "c"], 1, "photos is no result of clean"),
        (["apply", "d.csv", "--result", "out", "--out", "photos/c"], 2, "lies inside"),
        (["apply", "d.csv", "--result", "out", "--out", "c", "--as", "zip"], 2, "one of: links, copies"),
        (["apply", "nowhere.csv", "--result", "out", "--out", "c"], 1, "nowhere.csv cannot be read"),
        (
            ["apply", "d.csv", "--result", "out", "--out", "c", "--root", "no"],
            1,
            "give the folder with --root",
        ),
        (["revert", "photos"], 2, "`noisyctl apply` did not write"),
        (["why", "no such photo", "--result", "out"], 1, "neither an id nor a path"),
        (["export", "--result", "out", "--to", "excel", "--out", "c"], 2, "one of: imagefolder"),
        (["audit", "--result", "out", "--n", "many"], 2, "--n is 'many'"),
        (["audit", "--result", "out", "--level", "95"], 2, "--level is '95'; give a number between 0 and 1"),
        (["audit", "--result", "out", "--answers", "d.csv"], 1, "not the design of an audit"),
        (["report", "--result", "out", "--out", "d.csv"], 2, "not a file that this command wrote"),
    ],
)
def test_bad_input_is_refused_with_the_cure_and_changes_nothing(
    listed: result.Result,
    tmp_path: Path,
    words: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "d.csv", rows_of(listed))
    before = folders.tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["noisyctl", *words])
    with pytest.raises(SystemExit) as ended:
        main.main()
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert ended.value.code == code, said
    assert folders.tree(tmp_path) == before


def test_why_as_text_and_as_json(listed: result.Result, tmp_path: Path) -> None:
    row = listed.rows[0]
    done = call("why", f"photos/{row.path}", "--result", "out", cwd=tmp_path)
    assert f"suggested label  {row.suggested}" in done.stderr
    about = json.loads(call("why", row.id, "--result", "out", "--json", cwd=tmp_path).stdout)
    assert about["rank"] == 1


def test_an_audit_from_the_sample_to_its_bounds(listed: result.Result, tmp_path: Path) -> None:
    done = call("audit", "--result", "out", "--n", "24", "--seed", "3", cwd=tmp_path)
    assert "24 photos drawn (6, " in done.stderr, done.stderr
    path = tmp_path / "out-audit/audit.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        photo = listed.by_id[row[0]]
        row[3:5] = ["relabel" if photo.suggested != photo.given else "keep", photo.suggested]
    path.write_text(csv_files.as_file_text(rows), newline="")
    done = call("audit", "--result", "out", "--answers", "out-audit/audit.csv", cwd=tmp_path)
    assert "of all 24 labels about 25.0 %, 25.0 to 25.0 % (95 % sure) are wrong" in done.stderr, done.stderr
    done = call("audit", "--result", "out", "--n", "5", cwd=tmp_path)
    assert done.returncode == 2  # the answers stay
    assert "audit.csv, which was changed" in done.stderr
    for name, of in (("before", "given"), ("after", "suggested")):
        found = [csv_files.PREDICTIONS, *((row.path, getattr(row, of), "0.9") for row in listed.rows)]
        (tmp_path / f"{name}.csv").write_text(csv_files.as_file_text(found), newline="")
    words = ("audit", "--result", "out", "--answers", "out-audit/audit.csv", "--before", "before.csv")
    done = call(*words, "--after", "after.csv", cwd=tmp_path)
    assert "accuracy 75.0 % before, 100.0 % after; difference +25.0 points" in done.stderr, done.stderr
    assert "McNemar's p = 0.031" in done.stderr  # 2 / 2^6
    assert call(*words, cwd=tmp_path).returncode == 2


def test_export(listed: result.Result, tmp_path: Path) -> None:
    write(tmp_path / "d.csv", rows_of(listed))
    words = ("export", "--result", "out", "--to", "huggingface", "--out", "hf", "--as", "copies")
    done = call(*words, "--decisions", "d.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "23 photos in hf; 1 were dropped" in done.stderr
