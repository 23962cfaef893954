"""Run the stale stages of a dvc.yaml several at a time, on this machine or on a SLURM cluster.

DVC says which stages are stale and what they run; this command runs them in the order of their dependencies and records
each in dvc.lock as soon as it has ended well, all from one process, so that nothing waits for DVC's locks:

  [1] a stage's turn comes when all it depends on is done. It is asked then whether it is stale: an upstream stage may
      have run and left the same bytes
  [2] what DVC's run-cache holds is checked out, not run
  [3] a stage that fails is listed with its log; stages that do not depend on it go on
  [4] a stage whose dependencies changed while it ran is not recorded

After kill -9 the same command goes on: what was recorded is not stale, and the mark that a command leaves when it ends
well (.noisyctl/sweep/STAGE.done) tells a finished stage that was not yet recorded.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noisyctl.artifacts import files
from noisyctl.errors import ArtifactError, NoisyctlError, ParamsError
from noisyctl.session import Session
from stages import jobs


class Stopped(NoisyctlError):
    """Ctrl-C, or SIGTERM."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Stop(threading.Event):
    """Set by the signal `number`."""

    number: int = signal.SIGINT

    def by(self, number: int, frame: Any) -> None:
        self.number = number
        self.set()


@dataclass(frozen=True)
class Inputs:
    target: str = ""
    jobs: int = 1
    slurm: bool = False
    slurm_set: tuple[str, ...] = ()
    gpus: str = ""
    dry_run: bool = False


@dataclass
class Sweep:
    """What has been done, is running, and is yet to come."""

    repo: Any
    pool: jobs.Local | jobs.Slurm
    folder: Path
    upstream: dict[Any, set[Any]]
    quiet: bool
    waiting: list[Any] = field(init=False)
    running: dict[Any, tuple[jobs.Job, jobs.Command]] = field(default_factory=dict)
    done: dict[Any, str] = field(default_factory=dict)
    failed: dict[Any, str] = field(default_factory=dict)
    blocked: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.waiting = list(self.upstream)

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def run(inputs: Inputs, params: Any = None, session: Session = Session()) -> dict[str, Any]:
    """Run what is stale. Raises NoisyctlError that lists the stages that failed."""
    repo = _repository()
    _check_cells(inputs.target)
    upstream = _order(repo, inputs.target)
    if inputs.dry_run:
        return _would_run(repo, upstream, session.quiet)
    folder = Path(repo.root_dir, session.scratch, "sweep")
    files.require_scratch(folder.parent)
    with _alone(folder), _stop_signals() as stop:
        sweep = Sweep(repo, _pool(inputs, folder), folder, upstream, session.quiet)
        try:
            _run_all(sweep, inputs.jobs, stop)
        finally:
            for job, command in sweep.running.values():
                job.cancel()
                Path(command.note).unlink()
    if stop.is_set():
        raise Stopped(f"stopped, with {len(sweep.running)} running; the same command goes on", stop.number)
    if sweep.failed:
        raise NoisyctlError(_failures(sweep))
    how = list(sweep.done.values())
    return {word: how.count(word) for word in ("ran", "restored", "unchanged")}


def _repository() -> Any:
    """The DVC repository around this folder."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)  # it tells of every lock file on stdout
    try:
        return Repo(_wait_for_lock=True)
    except NotDvcRepoError as error:
        raise NoisyctlError(
            "no DVC repository here; go to its folder, or make one with `dvc init`"
        ) from error


def _check_cells(target: str) -> None:
    """A paper's cells.yaml must be what `noisyctl plan` made of the files there are now."""
    from stages import paper_cells, papers

    folder = Path(target.split(":")[0])
    folder = folder.parent if folder.suffix else folder
    if (folder / "tables.yaml").exists() and folder.parent.resolve() == papers.HOME.resolve():
        paper_cells.read_plan(folder.name)


def _order(repo: Any, target: str) -> dict[Any, set[Any]]:
    """Each stage after what it depends on, and what it depends on directly. Upstream stages belong to it."""
    import networkx
    from dvc.exceptions import DvcException
    from dvc.stage.exceptions import StageNotFound

    if Path(target or ".").is_dir():
        target = str(Path(target or ".", "dvc.yaml"))
        if not Path(target).exists():
            raise NoisyctlError(f"{target} does not exist; name a dvc.yaml, its folder, or a stage")
    if "/" in target and not Path(target.split(":")[0]).exists():
        raise NoisyctlError(f"{target} does not exist; name a dvc.yaml, its folder, or a stage")
    try:
        wanted = repo.stage.collect(target, with_deps=True)
        graph = repo.index.graph
        place = {stage: i for i, stage in enumerate(repo.index.stages)}
    except StageNotFound as error:
        raise ParamsError(f"{error}; `dvc stage list` names the stages") from error
    except DvcException as error:
        raise _explained(error) from error
    downstream = graph.subgraph(wanted).reverse()
    order = networkx.lexicographical_topological_sort(downstream, key=place.__getitem__)
    return {stage: set(graph.successors(stage)) for stage in order if stage.cmd and not stage.frozen}


def _explained(error: Exception) -> NoisyctlError:
    text = " ".join(str(error).split())
    lock = re.search(r"[^\s'\"]*dvc\.lock", text)
    if lock:
        return ArtifactError(f"{text}; run `git checkout {lock[0]}`, then the same command again")
    return ParamsError(text)


def _would_run(repo: Any, upstream: dict[Any, set[Any]], quiet: bool) -> dict[str, Any]:
    """Print the stages in order. What depends on a stale stage may turn out to be up to date."""
    stale: dict[Any, str] = {}
    with repo.lock:
        for stage, needs in upstream.items():
            if stage.changed():
                stale[stage] = ""
            elif needs & stale.keys():
                stale[stage] = "  (if what it depends on changes)"
    if not quiet:
        for stage, note in stale.items():
            print(f"{stage.addressing}{note}", file=sys.stderr)
    return {"would_run": [stage.addressing for stage in stale]}


def _pool(inputs: Inputs, folder: Path) -> jobs.Local | jobs.Slurm:
    if not inputs.slurm:
        return jobs.Local(inputs.jobs, [name for name in inputs.gpus.split(",") if name])
    unset = [word for word in inputs.slurm_set if "=" not in word]
    if unset:
        raise ParamsError(f"--slurm-set {unset[0]}: write key=value, such as partition=gpu")
    return jobs.Slurm(folder / "slurm", dict(word.split("=", 1) for word in inputs.slurm_set))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two sweeps of one repository would run the same stages."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NoisyctlError(f"another sweep holds {folder}/lock; wait for it, or stop it") from None
        yield


@contextlib.contextmanager
def _stop_signals() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM set the event: dvc.lock, which DVC does not write atomically, is never left half-written."""
    stop = Stop()
    before = {s: signal.signal(s, stop.by) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_all(sweep: Sweep, most: int, stop: threading.Event) -> None:
    while (sweep.waiting or sweep.running) and not stop.is_set():
        moved = False
        for stage in list(sweep.waiting):
            needs = sweep.upstream[stage] & sweep.upstream.keys()
            if needs & (sweep.failed.keys() | set(sweep.blocked)):
                sweep.blocked.append(stage)
            elif needs <= sweep.done.keys() and len(sweep.running) < most and not stop.is_set():
                _begin(sweep, stage)
            else:
                continue
            sweep.waiting.remove(stage)
            moved = True
        ended = [stage for stage, (job, _) in sweep.running.items() if job.done()]
        for stage in ended:
            _end(sweep, stage)
        if not (moved or ended):
            stop.wait(sweep.pool.seconds_between_looks)


def _begin(sweep: Sweep, stage: Any) -> None:
    """Ask whether the stage is stale; if so take up, check out or start its work. [1] [2]"""
    from dvc.exceptions import DvcException
    from dvc.stage.cache import RunCacheNotFoundError

    try:
        with sweep.repo.lock:
            if not stage.changed():
                sweep.done[stage] = "unchanged"
                return
            command = _command(sweep, stage)
            if _text(command.mark) == command.key and all(out.exists for out in stage.outs):
                _record(sweep, stage, command, "ran")
                return
            key, _, name = _text(command.note).partition(" ")
            job = sweep.pool.resume(name) if key == command.key else None
            if job is None:
                Path(command.mark).unlink(missing_ok=True)
                stage.remove_outs(ignore_remove=False, force=False)
                try:
                    sweep.repo.stage_cache.restore(stage)
                except RunCacheNotFoundError:
                    Path(command.log).unlink(missing_ok=True)
                    job = sweep.pool.start(command)
                    Path(command.note).write_text(f"{command.key} {job.name}")
                else:
                    _record(sweep, stage, command, "restored")
                    return
    except DvcException as error:
        _fail(sweep, stage, str(error))
        return
    sweep.running[stage] = job, command
    sweep.say(f"started  {stage.addressing}  ({len(sweep.running)} running)")


def _end(sweep: Sweep, stage: Any) -> None:
    from dvc.exceptions import DvcException

    job, command = sweep.running.pop(stage)
    Path(command.note).unlink()
    reason = job.failure()
    if reason:
        said = [line for line in _text(command.log).splitlines() if line.startswith("error: ")]
        _fail(
            sweep,
            stage,
            "; ".join([reason, *(line.removeprefix("error: ") for line in said), f"see {command.log}"]),
        )
        return
    try:
        with sweep.repo.lock:
            _record(sweep, stage, command, "ran")
    except DvcException as error:
        _fail(sweep, stage, str(error))


def _record(sweep: Sweep, stage: Any, command: jobs.Command, how: str) -> None:
    """What `dvc commit -f` does for one stage. [4]"""
    if _key(stage) != command.key:
        _fail(sweep, stage, "what it depends on changed while it ran; run the same command again")
        return
    stage.save()
    stage.commit()
    stage.dvcfile.dump_stages([stage], update_pipeline=False)
    for path in (command.mark, command.note):
        Path(path).unlink(missing_ok=True)
    sweep.done[stage] = how
    sweep.say(f"{how:9}{stage.addressing}  ({len(sweep.waiting)} waiting)")


def _fail(sweep: Sweep, stage: Any, reason: str) -> None:
    sweep.failed[stage] = " ".join(reason.split())
    sweep.say(f"failed   {stage.addressing}  {sweep.failed[stage]}")


def _failures(sweep: Sweep) -> str:
    lines = [f"{len(sweep.failed)} of {len(sweep.upstream)} stages failed; what succeeded is recorded"]
    lines += [f"{stage.addressing}: {reason}" for stage, reason in sweep.failed.items()]
    if sweep.blocked:
        lines.append("not run, for they depend on these: " + ", ".join(s.addressing for s in sweep.blocked))
    return "\n".join(lines)


def _command(sweep: Sweep, stage: Any) -> jobs.Command:
    """The stage's command, in its folder, as DVC would run it."""
    lines = stage.cmd if isinstance(stage.cmd, list) else [stage.cmd]
    inside = os.path.relpath(stage.path, sweep.repo.root_dir)
    name = re.sub(r"[^\w.@+=-]", "-", f"{inside}-{stage.name}".removeprefix("dvc.yaml-"))
    here = str(Path(sys.executable).parent)
    return jobs.Command(
        shell=" && ".join(f"(\n{line}\n)" for line in lines) if len(lines) > 1 else lines[0],
        folder=stage.wdir,
        log=str(sweep.folder / f"{name}.log"),
        mark=str(sweep.folder / f"{name}.done"),
        note=str(sweep.folder / f"{name}.job"),
        key=_key(stage),
        environment={
            "DVC_ROOT": sweep.repo.root_dir,
            "DVC_STAGE": stage.addressing,
            "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}",
        },
    )


def _key(stage: Any) -> str:
    """Changes with the stage's command, params and dependencies; leaves what the stage knows of dvc.lock as it is."""
    facts = [stage.cmd, stage.wdir]
    for dep in map(copy.copy, stage.deps):
        dep.save()
        facts.append([dep.def_path, dep.hash_info.name, dep.hash_info.value])
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return ""


def command() -> Any:
    """The Typer command. It has no params, for dvc.yaml names them all."""
    import typer

    text = "Run the stale stages of a dvc.yaml several at a time, here or on a SLURM cluster."
    example = "noisyctl sweep papers/scanmix --jobs 2"
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command("sweep", help=f"{text}\n\n\b\nExample:\n  {example}")
    def call(
        target: str = typer.Argument("", help="dvc.yaml, its folder, or a stage, with all it depends on [.]"),
        jobs: int = typer.Option(0, min=0, show_default=False, help="most at a time [1, with --slurm 64]"),
        gpus: str = typer.Option("", metavar="0,1", help="GPUs that local jobs share in turn [all see all]"),
        slurm: bool = typer.Option(False, "--slurm", help="submit them to SLURM, through submitit"),
        slurm_set: list[str] = typer.Option(
            [], metavar="key=value", help="of sbatch: partition, time [minutes, 1440], gpus, ...; repeatable"
        ),
        dry_run: bool = typer.Option(False, "--dry-run", help="list what would run, in order"),
        as_json: bool = typer.Option(False, "--json", help="one line of JSON on stdout"),
    ) -> None:
        most = jobs or (64 if slurm else 1)
        inputs = Inputs(target, most, slurm, tuple(slurm_set), gpus, dry_run)
        found = run(inputs, None, Session(quiet=as_json))
        if as_json:
            print(json.dumps(found, sort_keys=True))
        elif not dry_run:
            print("  ".join(f"{key} {value}" for key, value in found.items()), file=sys.stderr)

    return typer.main.get_command(app)
