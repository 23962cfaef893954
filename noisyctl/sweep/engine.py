"""Run the stale stages of a pipeline in the order of their dependencies, several at a time.

One process runs them all and records each in dvc.lock as soon as it has ended well, so that nothing waits for DVC's locks:

  [1] the turn of a stage comes when all that it depends on is done. Only then it is asked whether it is stale: a stage
      before it may have run and left the same bytes
  [2] what DVC's run-cache holds is checked out, not run
  [3] a stage that fails is listed with its log; stages that do not depend on it go on
  [4] a stage whose dependencies changed while it ran is not recorded

After kill -9 the same command goes on: what was recorded is not stale, and the mark that a command leaves when it ends well
(.noisyctl/sweep/STAGE.done) tells a finished stage that was not yet recorded.
"""

from __future__ import annotations

import contextlib
import graphlib
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noisyctl.artifacts import files
from noisyctl.errors import NoisyctlError, ParamsError
from noisyctl.sweep.graph import Graph, Stage, StageError, Upstream
from noisyctl.sweep.guarded import Executor, GuardedCommand, Job


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
class Options:
    """How to run a sweep: at most `jobs` stages at a time, on this machine or on SLURM with settings for sbatch."""

    jobs: int = 1
    slurm: bool = False
    slurm_set: tuple[str, ...] = ()
    gpus: str = ""


@dataclass
class Sweep:
    """What has been done, what is running, and what is yet to come."""

    graph: Graph
    executor: Executor
    folder: Path
    upstream: Upstream
    quiet: bool
    order: graphlib.TopologicalSorter[Stage] = field(init=False)
    ready: list[Stage] = field(default_factory=list)
    running: dict[Stage, tuple[Job, GuardedCommand]] = field(default_factory=dict)
    done: dict[Stage, str] = field(default_factory=dict)
    failed: dict[Stage, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = graphlib.TopologicalSorter(self.upstream)
        self.order.prepare()
        self.look()

    def look(self) -> None:
        """Add the stages to `ready` whose turn has come, in the order of the pipeline."""
        place = {stage: i for i, stage in enumerate(self.upstream)}
        self.ready = sorted([*self.ready, *self.order.get_ready()], key=place.__getitem__)

    def finish(self, stage: Stage, how: str) -> None:
        """A stage is done: what depends on it may have its turn."""
        self.done[stage] = how
        self.order.done(stage)
        self.look()

    def fail(self, stage: Stage, reason: str) -> None:
        """A stage has failed: what depends on it never has its turn."""
        self.failed[stage] = " ".join(reason.split())
        self.say(f"failed   {stage.name}  {self.failed[stage]}")

    @property
    def waiting(self) -> list[Stage]:
        """The stages that were not begun."""
        begun = {*self.done, *self.failed, *self.running}
        return [stage for stage in self.upstream if stage not in begun]

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def run(target: str, options: Options, scratch: Path, quiet: bool = False) -> dict[str, Any]:
    """Run what is stale of a target: a dvc.yaml, its folder or a stage. Counts what ran, was restored, or was unchanged.

    Raises NoisyctlError that lists the stages that failed, and Stopped after Ctrl-C or SIGTERM.
    """
    graph = Graph(target)
    upstream = graph.upstream(target)
    folder = graph.root / scratch / "sweep"
    files.require_scratch(folder.parent)
    with _alone(folder), _stop_signals() as stop:
        sweep = Sweep(graph, _executor(options, folder), folder, upstream, quiet)
        try:
            _run_all(sweep, options.jobs, stop)
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


def would_run(target: str) -> dict[str, bool]:
    """The stages that a sweep would run, in order, and whether each depends on another of them.

    One that does may turn out to be up to date, where the other leaves the same bytes.
    """
    graph = Graph(target)
    stale: dict[Stage, bool] = {}
    with graph.locked():
        for stage, needs in graph.upstream(target).items():
            if stage.is_stale:
                stale[stage] = False
            elif needs & stale.keys():
                stale[stage] = True
    return {stage.name: depends for stage, depends in stale.items()}


def _executor(options: Options, folder: Path) -> Executor:
    if not options.slurm:
        from noisyctl.sweep.local import Local

        return Local(options.jobs, [name for name in options.gpus.split(",") if name])
    from noisyctl.sweep.slurm import Slurm

    unset = [word for word in options.slurm_set if "=" not in word]
    if unset:
        raise ParamsError(f"--slurm-set {unset[0]}: write key=value, such as partition=gpu")
    return Slurm(folder / "slurm", dict(word.split("=", 1) for word in options.slurm_set))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two sweeps of one project would run the same stages."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout:
        raise NoisyctlError(f"another sweep holds {folder}/lock; wait for it, or stop it") from None


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
    while (sweep.ready or sweep.running) and not stop.is_set():
        begun = 0
        while sweep.ready and len(sweep.running) < most and not stop.is_set():
            _begin(sweep, sweep.ready.pop(0))
            begun += 1
        ended = [stage for stage, (job, _) in sweep.running.items() if job.done()]
        for stage in ended:
            _end(sweep, stage)
        if not (begun or ended):
            stop.wait(sweep.executor.seconds_between_looks)


def _begin(sweep: Sweep, stage: Stage) -> None:
    """Ask whether the stage is stale; if so take up, check out or start its work. [1] [2]"""
    try:
        with sweep.graph.locked():
            started = _start(sweep, stage)
    except StageError as error:
        sweep.fail(stage, str(error))
        return
    if started is not None:
        sweep.running[stage] = started
        sweep.say(f"started  {stage.name}  ({len(sweep.running)} running)")


def _start(sweep: Sweep, stage: Stage) -> tuple[Job, GuardedCommand] | None:
    """The job of a stage; None where nothing has to run."""
    if not stage.is_stale:
        sweep.finish(stage, "unchanged")
        return None
    command = stage.command(sweep.folder)
    if _text(command.mark) == command.key and stage.has_outputs:
        _record(sweep, stage, command, "ran")
        return None
    key, _, name = _text(command.note).partition(" ")
    job = sweep.executor.resume(name) if key == command.key else None
    if job is not None:
        return job, command
    Path(command.mark).unlink(missing_ok=True)
    stage.remove_outputs()
    if stage.restore():
        _record(sweep, stage, command, "restored")
        return None
    Path(command.log).unlink(missing_ok=True)
    job = sweep.executor.start(command)
    Path(command.note).write_text(f"{command.key} {job.name}")
    return job, command


def _end(sweep: Sweep, stage: Stage) -> None:
    job, command = sweep.running.pop(stage)
    Path(command.note).unlink()
    reason = job.failure()
    if reason:
        said = [line for line in _text(command.log).splitlines() if line.startswith("error: ")]
        told = [reason, *(line.removeprefix("error: ") for line in said), f"see {command.log}"]
        sweep.fail(stage, "; ".join(told))
        return
    try:
        with sweep.graph.locked():
            _record(sweep, stage, command, "ran")
    except StageError as error:
        sweep.fail(stage, str(error))


def _record(sweep: Sweep, stage: Stage, command: GuardedCommand, how: str) -> None:
    """Record a stage, unless what it depends on changed meanwhile. [4]"""
    if stage.key != command.key:
        sweep.fail(stage, "what it depends on changed while it ran; run the same command again")
        return
    stage.record()
    for path in (command.mark, command.note):
        Path(path).unlink(missing_ok=True)
    sweep.finish(stage, how)
    sweep.say(f"{how:9}{stage.name}  ({len(sweep.waiting)} waiting)")


def _failures(sweep: Sweep) -> str:
    lines = [f"{len(sweep.failed)} of {len(sweep.upstream)} stages failed; what succeeded is recorded"]
    lines += [f"{stage.name}: {reason}" for stage, reason in sweep.failed.items()]
    if sweep.waiting:
        lines.append("not run, for they depend on these: " + ", ".join(s.name for s in sweep.waiting))
    return "\n".join(lines)


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return ""
