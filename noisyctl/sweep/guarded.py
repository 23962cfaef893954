"""A stage's command under a guard, and the job that it becomes on an executor.

The guard is a small Python process that starts the command and then reads from a pipe, whose other end only the sweep holds.
Guard and command are a process group of their own. When the sweep ends, be it by kill -9, the pipe closes, and the guard
kills its group: so no command outlives the sweep. Windows has no process groups; sweeping there was never tried.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

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


@dataclass(frozen=True)
class GuardedCommand:
    """The command line `shell` of one stage, which runs in `folder` under a guard and writes to the file `log`.

    `key` is a digest of the stage as it is now. While the command runs, the file `note` holds this digest; after it has
    succeeded, the file `mark` does.
    """

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
        """What submitit queues when the time is up: the same command, since a stage goes on from its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@runtime_checkable
class Job(Protocol):
    """A guarded command that was started."""

    @property
    def name(self) -> str:
        """Its number in the cluster's queue; empty here."""

    def done(self) -> bool:
        """It has ended, well or not."""

    def failure(self) -> str:
        """Why it failed; empty where it did not."""

    def cancel(self) -> None:
        """End it and everything it started."""


@runtime_checkable
class Executor(Protocol):
    """Where commands run: this machine, or a cluster."""

    seconds_between_looks: float

    def start(self, command: GuardedCommand) -> Job:
        """Begin a command."""

    def resume(self, name: str) -> Job | None:
        """The job of this name that an earlier sweep began; None where it can no longer be at work."""
