"""Run commands as jobs of a SLURM cluster. submitit writes and submits the batch files.

A job outlives a sweep that was killed; the next sweep takes it up again by its number. A job that runs out of time is
queued again, and goes on from its checkpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisyctl.config import read_scalar
from noisyctl.errors import NoisyctlError, ParamsError, suggest
from noisyctl.sweep.guarded import GuardedCommand, Job

SHORT = {"gpus": "gpus_per_node", "cpus": "cpus_per_task"}


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

    def start(self, command: GuardedCommand) -> Job:
        return SlurmJob(self.executor.submit(command))

    def resume(self, name: str) -> Job | None:
        """The job of an earlier sweep, by its number."""
        import submitit

        return SlurmJob(submitit.SlurmJob(self.folder, name)) if name else None
