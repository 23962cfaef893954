"""sweep: on a small DVC repository whose stages are one-line Python commands that write down when they ran."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from noisyctl.errors import NoisyctlError, ParamsError
from noisyctl.session import Session
from noisyctl.sweep import engine, local, slurm
from noisyctl.sweep.guarded import GuardedCommand
from stages import sweep

NOISYCTL = Path(sys.executable).with_name("noisyctl")
STAMP = """
import glob, sys, time
name, seconds, *sources = sys.argv[1:]
start = time.time()
if seconds == "meet":  # until another stage that meets has begun; alone it fails
    open(f"{name}.begun", "w").close()
    for _ in range(3000):
        if len(glob.glob("*.begun")) > 1:
            break
        time.sleep(0.01)
    else:
        sys.exit("nobody else came")
else:
    time.sleep(float(seconds))
assert "bad" not in name, "meant to fail"
if name.startswith("same"):
    open(f"{name}.txt", "w").write("always the same")
else:
    open(f"{name}.txt", "w").write("".join(open(s).read() for s in sources) + name)
open("times.txt", "a").write(f"{name} {start} {time.time()}\\n")
"""


@pytest.fixture(autouse=True)
def scratch_in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOISYCTL_SCRATCH", raising=False)


def repository(
    folder: Path, stages: dict[str, list[str]], seconds: float = 0, meet: str = "", **more: Any
) -> Path:
    """Stages by name, each with the files it reads; it writes NAME.txt."""
    folder.mkdir(exist_ok=True)
    (folder / "stamp.py").write_text(STAMP)
    (folder / "source.txt").write_text("source\n")
    described = {
        name: {
            "cmd": f"{sys.executable} -S stamp.py {name} {'meet' if name in list(meet) else seconds} {' '.join(sources)}",
            "deps": sources,
            "outs": [f"{name}.txt"],
        }
        for name, sources in stages.items()
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": described | more}, sort_keys=False))
    if not (folder / ".dvc").exists() and not (folder.parent / ".dvc").exists():
        from dvc.repo import Repo

        Repo.init(str(folder), no_scm=True).close()
    return folder


def go(monkeypatch: pytest.MonkeyPatch, folder: Path, **options: Any) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    return sweep.run(sweep.Inputs(**options), None, Session(quiet=True))


def times(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """When each stage ran, by its own clock."""
    found: dict[str, list[tuple[float, float]]] = {}
    lines = (folder / "times.txt").read_text().splitlines() if (folder / "times.txt").exists() else []
    for line in lines:
        name, start, end = line.split()
        found.setdefault(name, []).append((float(start), float(end)))
    return found


def together(spans: dict[str, list[tuple[float, float]]]) -> int:
    """The most stages that were at work at one moment."""
    moments = [start for ((start, _),) in spans.values()]
    return max(sum(start <= m < end for ((start, end),) in spans.values()) for m in moments)


def test_two_at_a_time_in_the_order_of_dependencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {"last": ["a.txt", "b.txt", "c.txt"], "a": ["first.txt"], "b": ["first.txt"], "c": ["first.txt"]}
    repository(tmp_path, stages | {"first": ["source.txt"]}, meet="abc")
    assert go(monkeypatch, tmp_path, jobs=2) == {"ran": 5, "restored": 0, "unchanged": 0}
    spans = times(tmp_path)
    assert together(spans) == 2
    ((_, first),), ((last, _),) = spans["first"], spans["last"]
    assert all(first <= start and end <= last for name in "abc" for start, end in spans[name])
    # DVC agrees that all is done, and a second sweep has nothing to do
    from dvc.repo import Repo

    assert Repo().status() == {}
    assert go(monkeypatch, tmp_path, jobs=2) == {"ran": 0, "restored": 0, "unchanged": 5}
    assert times(tmp_path) == spans


def test_what_depends_on_the_same_bytes_is_not_run_and_what_ran_once_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path, {"same": ["source.txt"], "next": ["same.txt"], "other": ["source.txt"]})
    go(monkeypatch, tmp_path)
    (tmp_path / "source.txt").write_text("edited\n")
    assert go(monkeypatch, tmp_path, dry_run=True) == {"would_run": ["same", "next", "other"]}
    # `next` follows a stage that is stale, but whose output stays the same
    assert go(monkeypatch, tmp_path) == {"ran": 2, "restored": 0, "unchanged": 1}
    assert {name: len(spans) for name, spans in times(tmp_path).items()} == {"same": 2, "next": 1, "other": 2}
    # the first source again: DVC's run-cache has both results
    (tmp_path / "source.txt").write_text("source\n")
    assert go(monkeypatch, tmp_path) == {"ran": 0, "restored": 2, "unchanged": 1}
    assert (tmp_path / "other.txt").read_text() == "source\nother"


def test_a_target_takes_what_it_depends_on_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path, {"a": ["source.txt"], "b": ["a.txt"], "c": ["source.txt"]})
    repository(tmp_path / "paper", {"d": ["../b.txt"]})
    assert go(monkeypatch, tmp_path, target="paper", dry_run=True)["would_run"] == [
        "a",
        "b",
        "paper/dvc.yaml:d",
    ]
    assert go(monkeypatch, tmp_path, target="b", dry_run=True)["would_run"] == ["a", "b"]
    assert go(monkeypatch, tmp_path, dry_run=True)["would_run"] == ["a", "b", "c"]
    assert go(monkeypatch, tmp_path, target="paper")["ran"] == 3
    assert set(times(tmp_path / "paper")) == {"d"} and set(times(tmp_path)) == {"a", "b"}
    assert (tmp_path / ".noisyctl/sweep/paper-dvc.yaml-d.log").exists()


def test_a_failure_names_its_log_and_stops_only_what_depends_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = {"bad": ["source.txt"], "after": ["bad.txt"], "later": ["after.txt"], "good": ["source.txt"]}
    # says it ended well, but wrote nothing
    liar = {"cmd": "true", "deps": ["source.txt"], "outs": ["liar.txt"]}
    repository(tmp_path, tree, liar=liar)
    with pytest.raises(NoisyctlError) as caught:
        go(monkeypatch, tmp_path)
    head, *lines = str(caught.value).splitlines()
    assert head == "2 of 5 stages failed; what succeeded is recorded"
    assert lines[0] == f"bad: exit code 1; see {tmp_path}/.noisyctl/sweep/bad.log"
    assert lines[1].startswith("liar: ") and "liar.txt" in lines[1]
    assert lines[2] == "not run, for they depend on these: after, later"
    assert "meant to fail" in (tmp_path / ".noisyctl/sweep/bad.log").read_text()
    assert list(yaml.safe_load((tmp_path / "dvc.lock").read_text())["stages"]) == ["good"]


def test_a_dependency_that_changes_meanwhile_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = {"cmd": "echo 2 > source.txt; touch edit.txt", "deps": ["source.txt"], "outs": ["edit.txt"]}
    repository(tmp_path, {}, edit=edit)
    with pytest.raises(NoisyctlError, match="edit: what it depends on changed while it ran; run the same"):
        go(monkeypatch, tmp_path)
    assert not (tmp_path / "dvc.lock").exists()


def wait_for(what: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_it_leaves_no_orphan_and_goes_on_with_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    # the first time `long` has a grandchild and never ends; the second time it ends at once
    long = "test -e pid || { sleep 600 & echo $! > pid; wait; }; echo > long.txt"
    stage = {"cmd": long, "deps": ["a.txt"], "outs": ["long.txt"]}
    repository(tmp_path, {"a": ["source.txt"], "b": ["long.txt"]}, long=stage)
    command = [NOISYCTL, "sweep", "--jobs", "2"]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    # a second sweep of the same repository is refused
    with pytest.raises(NoisyctlError, match="another sweep holds"):
        go(monkeypatch, tmp_path)
    first.send_signal(number)
    _, said = first.communicate(timeout=30)
    assert first.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert number == signal.SIGKILL or "error: stopped, with 1 running; the same command goes on" in said
    wait_for(lambda: not alive(int((tmp_path / "pid").read_text())))
    assert go(monkeypatch, tmp_path) == {"ran": 2, "restored": 0, "unchanged": 1}
    assert {name: len(spans) for name, spans in times(tmp_path).items()} == {"a": 1, "b": 1}


def test_a_stage_that_ended_before_the_sweep_could_record_it_is_recorded_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path, {"a": ["source.txt"]})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_record", killed)
        with pytest.raises(KeyboardInterrupt):
            go(patch, tmp_path)
    assert not (tmp_path / "dvc.lock").exists()
    assert go(monkeypatch, tmp_path) == {"ran": 1, "restored": 0, "unchanged": 0}
    assert len(times(tmp_path)["a"]) == 1
    assert "a" in yaml.safe_load((tmp_path / "dvc.lock").read_text())["stages"]


def test_a_truncated_lock_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path, {"a": ["source.txt"]})
    go(monkeypatch, tmp_path)
    lock = tmp_path / "dvc.lock"
    for size in (lock.stat().st_size // 2, 30):
        whole = lock.read_bytes()
        lock.write_bytes(whole[:size] + b"'")
        with pytest.raises(NoisyctlError, match=r"run `git checkout dvc\.lock`, then the same command again"):
            go(monkeypatch, tmp_path)
        lock.write_bytes(whole)


def test_what_cannot_be_swept_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoisyctlError, match="no DVC repository here"):
        go(monkeypatch, tmp_path)
    repository(tmp_path, {"a": ["source.txt"]})
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoisyctlError, match=r"empty/dvc.yaml does not exist; name a dvc.yaml, its folder"):
        go(monkeypatch, tmp_path, target="empty")
    with pytest.raises(
        ParamsError, match=r"'nothing' not found inside 'dvc.yaml' file; `dvc stage list` names"
    ):
        go(monkeypatch, tmp_path, target="nothing")
    (tmp_path / "source.txt").unlink()
    with pytest.raises(NoisyctlError, match=r"a: .*source.txt"):
        go(monkeypatch, tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: true}}")
    with pytest.raises(ParamsError, match=r"dvc.yaml.* validation failed"):
        go(monkeypatch, tmp_path)


def test_cores_and_gpus_are_shared_among_local_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(9)), raising=False)
    told = {
        f"s{i}": {
            "cmd": f"echo $OMP_NUM_THREADS $CUDA_VISIBLE_DEVICES > s{i}.txt; sleep 0.3",
            "outs": [f"s{i}.txt"],
        }
        for i in range(2)
    }
    repository(tmp_path, {}, **told)
    go(monkeypatch, tmp_path, jobs=2, gpus="4,7")
    assert [(tmp_path / f"s{i}.txt").read_text().split() for i in range(2)] == [["4", "4"], ["4", "7"]]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert local.Local(2).threads == "3"


# A cluster of one node: sbatch starts the batch file, srun its command, sacct knows what has ended.
SBATCH = """#!/bin/sh
number=$(($(cat $CLUSTER/last 2>/dev/null || echo 100) + 1)); echo $number > $CLUSTER/last
cp "$1" $CLUSTER/$number.sh
(export SLURM_JOB_ID=$number SLURM_CPUS_PER_TASK=3 SLURM_PROCID=0
 setsid bash "$1" > $CLUSTER/$number.out 2>&1; echo $? > $CLUSTER/$number.code) > /dev/null 2>&1 &
echo "Submitted batch job $number"
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do
  [[ $1 == --output ]] && { output=${2//%j/$SLURM_JOB_ID}; output=${output//%t/0}; shift; }
  shift
done
exec "$@" > "$output" 2>&1
"""
SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
for code in $CLUSTER/*.code; do
  [[ -e $code ]] && echo "$(basename $code .code)|$([[ $(cat $code) == 0 ]] && echo COMPLETED || echo FAILED)|here"
done
exit 0
"""
SCANCEL = """#!/bin/sh
echo $1 >> $CLUSTER/cancelled
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("submitit")
    folder = tmp_path / "cluster"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": SCANCEL}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("CLUSTER", str(folder))
    return folder


def test_slurm_runs_them_with_the_settings_and_lists_what_fails(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    cores = {"cmd": "echo $OMP_NUM_THREADS > cores.txt", "deps": ["a.txt"], "outs": ["cores.txt"]}
    repository(tmp_path / "repo", {"a": ["source.txt"], "bad": ["source.txt"]}, cores=cores)
    settings = ("partition=gpu", "gpus=2", "time=30")
    with pytest.raises(NoisyctlError, match=r"bad: SLURM job 10\d failed; see .*/bad.log"):
        go(monkeypatch, tmp_path / "repo", jobs=3, slurm=True, slurm_set=settings)
    batch = (cluster / "101.sh").read_text()
    assert all(
        f"#SBATCH --{line}\n" in batch for line in ("partition=gpu", "gpus-per-node=2", "time=30", "nodes=1")
    )
    assert set(times(tmp_path / "repo")) == {"a"}
    assert (tmp_path / "repo/cores.txt").read_text() == "3\n"
    assert "meant to fail" in (tmp_path / "repo/.noisyctl/sweep/bad.log").read_text()


def test_a_slurm_job_outlives_a_killed_sweep_and_is_taken_up_again(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = {
        "cmd": "echo >> begun; while ! test -e go; do sleep 0.1; done; echo > slow.txt",
        "deps": ["source.txt"],
        "outs": ["slow.txt"],
    }
    home = repository(tmp_path / "repo", {"a": ["slow.txt"]}, slow=slow)
    note = home / ".noisyctl/sweep/slow.job"
    first = subprocess.Popen([NOISYCTL, "sweep", "--slurm"], cwd=home)
    wait_for(lambda: (home / "begun").exists() and note.exists())
    first.kill()
    first.wait()
    with pytest.raises(
        NoisyctlError, match="SLURM job 101 of an earlier sweep may still run; sweep with --slu"
    ):
        go(monkeypatch, home)
    (home / "go").touch()
    assert go(monkeypatch, home, slurm=True)["ran"] == 2
    assert (home / "begun").read_text() == "\n"
    assert not note.exists()


def test_ctrl_c_cancels_the_slurm_jobs(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = repository(tmp_path / "repo", {"a": ["source.txt"]}, seconds=2)
    sweeping = subprocess.Popen([NOISYCTL, "sweep", "--slurm"], cwd=home)
    wait_for((home / ".noisyctl/sweep/a.job").exists)
    sweeping.send_signal(signal.SIGINT)
    assert sweeping.wait() == 130
    assert (cluster / "cancelled").read_text() == "101\n"
    assert not (home / ".noisyctl/sweep/a.job").exists()  # the next sweep submits it anew
    wait_for((cluster / "101.code").exists)


def test_a_job_that_slurm_ended_is_told_from_one_that_failed_by_itself(tmp_path: Path) -> None:
    paths = SimpleNamespace(result_pickle=tmp_path / "result.pkl", stdout="out.log")
    job = slurm.SlurmJob(
        SimpleNamespace(job_id="7", state="TIMEOUT", paths=paths, exception=lambda: OSError())
    )
    assert job.failure() == "SLURM job 7 ended as TIMEOUT, see out.log"
    paths.result_pickle.touch()
    assert job.failure() == "SLURM job 7 failed"


def test_slurm_errors_name_the_cure(cluster: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = repository(tmp_path / "repo", {"a": ["source.txt"]})
    with pytest.raises(
        ParamsError, match=r"--slurm-set partitoin: no such setting; did you mean 'partition'"
    ):
        go(monkeypatch, home, slurm=True, slurm_set=("partitoin=gpu",))
    with pytest.raises(ParamsError, match="--slurm-set gpu: write key=value"):
        go(monkeypatch, home, slurm=True, slurm_set=("gpu",))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "submitit", None)
        with pytest.raises(NoisyctlError, match=r"--slurm needs submitit: pip install 'noisyctl\[sweep\]'"):
            go(monkeypatch, home, slurm=True)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(NoisyctlError, match="no srun here"):
        go(monkeypatch, home, slurm=True)


def test_the_command_line(tmp_path: Path) -> None:
    repository(tmp_path, {"a": ["source.txt"], "bad": ["source.txt"]})

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([NOISYCTL, "sweep", *words], cwd=tmp_path, capture_output=True, text=True)

    assert call("--dry-run").stdout.splitlines() == ["a", "bad"]
    assert json.loads(call("a", "--json").stdout) == {"ran": 1, "restored": 0, "unchanged": 0}
    done = call("--jobs", "2")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "error: 1 of 2 stages failed; what succeeded is recorded",
        f"error: bad: exit code 1; see {tmp_path}/.noisyctl/sweep/bad.log",
    ]


def test_submitits_own_local_executor_runs_a_command_and_tells_of_its_failure(tmp_path: Path) -> None:
    """What a node of the cluster does with the job, without a cluster."""
    submitit = pytest.importorskip("submitit")
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=1)
    places = {name: str(tmp_path / name) for name in ("log", "mark", "note")}
    good = GuardedCommand("echo done > made.txt", folder=str(tmp_path), key="k", **places)
    executor.submit(good).result()
    assert (tmp_path / "made.txt").read_text() == "done\n"
    assert (tmp_path / "mark").read_text() == "k"
    bad = GuardedCommand("echo no >&2; exit 3", folder=str(tmp_path), key="k", **places)
    with pytest.raises(Exception, match="exit code 3"):
        executor.submit(bad).result()
    assert (tmp_path / "log").read_text().endswith("no\n")
