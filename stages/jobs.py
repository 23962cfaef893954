"""Where a sweep runs its commands: processes of this machine, or jobs of a SLURM cluster.

A local command runs in a process group of its own under a guard: a small Python process that reads from a pipe whose
other end only the sweep holds. However the sweep ends, kill -9 included, the pipe closes and the guard kills its group,
so no command outlives it. submitit's own local executor lets commands live on, and gives them no GPU and two minutes.

On SLURM, submitit writes and submits the batch file. A job there outlives a sweep that was killed; the next one takes
it up again by its number. A job that runs out of time is requeued, and goes on from its checkpoint.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from noisyctl.config import read_scalar
from noisyctl.errors import NoisyctlError, ParamsError, suggest

GUARD = """
import os, signal, subprocess, sys, threading
mark, key, *command = sys.argv[1:]
child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
def end():
    code = child.wait()
    if code == 0:
        with open(mark + ".part", "w") as file:
            file.write(key)
        os.replace(mark + ".part", mark)
    os._exit(code if code >= 0 else 128 - code)
threading.Thread(target=end, daemon=True).start()
sys.stdin.buffer.read()
os.killpg(0, signal.SIGKILL)
"""
SHORT = {"gpus": "gpus_per_node", "cpus": "cpus_per_task"}


@dataclass(frozen=True)
class Command:
    """One stage's command. `key` names what it is run on: while it runs the file `note` holds it, after success `mark`."""

    shell: str
    folder: str
    log: str
    mark: str
    note: str
    key: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def begin(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Run it under a guard, which lives as long as this process holds its standard input."""
        words = [sys.executable, "-I", "-S", "-c", GUARD, self.mark, self.key, "/bin/sh", "-c", self.shell]
        with Path(self.log).open("ab") as log:
            return subprocess.Popen(
                words,
                cwd=self.folder,
                env=dict(os.environ) | dict(environment) | dict(self.environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __call__(self) -> None:
        """On a node of the cluster: run it, and raise where it fails."""
        cores = os.environ.get("OMP_NUM_THREADS") or os.environ.get("SLURM_CPUS_PER_TASK", "1")
        with self.begin({"OMP_NUM_THREADS": cores}) as process:
            code = process.wait()
        if code:
            raise RuntimeError(f"exit code {code}")

    def checkpoint(self) -> Any:
        """What submitit queues again when the time is up: the same, for a stage goes on from its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Job(Protocol):
    """A command that was started."""

    @property
    def name(self) -> str:
        """Its number in the cluster's queue; empty here."""

    def done(self) -> bool:
        """It has ended, well or not."""

    def failure(self) -> str:
        """Why it failed; empty where it did not."""

    def cancel(self) -> None:
        """End it and everything it started."""


@dataclass
class LocalJob:
    process: subprocess.Popen[bytes]
    name = ""

    def done(self) -> bool:
        return self.process.poll() is not None

    def failure(self) -> str:
        code = self.process.returncode
        return f"exit code {code if code >= 0 else 128 - code}" if code else ""

    def cancel(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Local:
    """At most `jobs` processes of this machine, which share its cores, and in turn the GPUs that are named."""

    seconds_between_looks = 0.05

    def __init__(self, jobs: int, gpus: Sequence[str] = ()) -> None:
        self.gpus = gpus
        self.places: list[LocalJob | None] = [None] * jobs
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // jobs))

    def start(self, command: Command) -> Job:
        place = next(i for i, job in enumerate(self.places) if job is None or job.done())
        environment = {"OMP_NUM_THREADS": self.threads}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)]
        self.places[place] = job = LocalJob(command.begin(environment))
        return job

    def resume(self, name: str) -> Job | None:
        """No local command outlives its sweep; a job of the cluster may still be at work."""
        if name:
            raise NoisyctlError(
                f"SLURM job {name} of an earlier sweep may still run; sweep with --slurm, or `scancel {name}`"
            )
        return None


@dataclass
class SlurmJob:
    job: Any

    @property
    def name(self) -> str:
        return str(self.job.job_id)

    def done(self) -> bool:
        return bool(self.job.done())

    def failure(self) -> str:
        if self.job.exception() is None:
            return ""
        if self.job.paths.result_pickle.exists():
            return f"SLURM job {self.name} failed"
        return f"SLURM job {self.name} ended as {self.job.state}, see {self.job.paths.stdout}"

    def cancel(self) -> None:
        self.job.cancel(check=False)


class Slurm:
    """Jobs of a SLURM cluster, through submitit. `settings` are options of sbatch, such as `partition`."""

    seconds_between_looks = 1.0

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        try:
            import submitit
        except ImportError:
            raise NoisyctlError("--slurm needs submitit: pip install 'noisyctl[sweep]'") from None
        if not shutil.which("srun"):
            raise NoisyctlError("--slurm: no srun here; sweep on a node of the cluster, or without --slurm")
        self.folder = folder
        self.executor = submitit.SlurmExecutor(folder)
        named = {SHORT.get(name, name): read_scalar(value) for name, value in settings.items()}
        known = self.executor._valid_parameters()
        for name in named:
            if name not in known:
                raise ParamsError(f"--slurm-set {name}: no such setting; {suggest(name, sorted(known))}")
        self.executor.update_parameters(
            **{"job_name": "noisyctl", "time": 1440, "stderr_to_stdout": True} | named
        )

    def start(self, command: Command) -> Job:
        return SlurmJob(self.executor.submit(command))

    def resume(self, name: str) -> Job | None:
        """The job of an earlier sweep, by its number."""
        import submitit

        return SlurmJob(submitit.SlurmJob(self.folder, name)) if name else None
