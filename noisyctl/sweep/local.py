"""Run commands as processes of this machine.

submitit's own local executor would let commands outlive a killed sweep, gives them no GPU, and looks every two minutes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from noisyctl.errors import NoisyctlError
from noisyctl.sweep.guarded import GuardedCommand, Job


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

    def start(self, command: GuardedCommand) -> Job:
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
