"""`--cluster`: the workers of a Dask cluster make blocks, and send them to this process, which keeps them.

Workers see the files of the command under the same paths, and compute with as many threads as the command. One whose
noisyctl, torch or decoder of images is of another version is refused. The block of a worker that dies is made by another
one; a block whose workers die again and again ends the command.
"""

import contextlib
import importlib
import inspect
import logging
import os
import pickle
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from noisyctl.errors import NoisyctlError, ParamsError, suggest
from noisyctl.runs import on_worker
from noisyctl.runs.blocks import Blocks, Tensors
from noisyctl.runs.workers import Report, Work
from noisyctl.session import Session, Silent

WAIT = 30.0  # seconds until a scheduler has answered, and until one that answers has a worker
LOOK = 1.0  # seconds between two looks at whether scheduler and workers are there
AHEAD = 2  # blocks that are asked for at a time, for each worker
DEATHS = 3  # workers that may die of one block before the command ends
CLASSES = {  # what a file may name, and the package that it lies in
    "LocalCluster": "distributed",
    **dict.fromkeys(
        (f"{name}Cluster" for name in ("HTCondor", "LSF", "Moab", "OAR", "PBS", "SGE", "SLURM")),
        "dask_jobqueue",
    ),
    "KubeCluster": "dask_kubernetes.operator",
}
KEYS = ("cluster", "workers", "arguments")


@contextlib.contextmanager
def connected(session: Session, stage: str) -> Iterator["Cluster"]:
    """The workers of the cluster that the session names. What was started for it ends with the block inside."""
    distributed = _distributed()
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)  # what matters comes as an error
    import dask

    settings = {  # also of the local workers; what they hold is no result that Dask could put on the disk
        "distributed.comm.timeouts.connect": f"{WAIT:g}s",
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        **{f"distributed.worker.memory.{when}": False for when in ("target", "spill", "pause")},
    }
    with dask.config.set(settings), _address(session, distributed) as (place, shown, waits):
        session.say(f"{stage} on {shown}")
        try:
            client = distributed.Client(place, timeout=WAIT)
        except (OSError, ValueError) as error:
            raise NoisyctlError(
                f"--cluster {session.cluster}: no Dask scheduler answers there within {WAIT:g} s; start one with `dask "
                "scheduler`, or give the address that it prints"
            ) from error
        with contextlib.closing(client):
            yield _met(Cluster(session, stage, client, shown, waits))


@dataclass
class Cluster:
    """Workers of a Dask cluster (`workers.Workers`). `waits` says that workers may come late, as jobs of a queue do."""

    own: Session
    stage: str
    client: Any
    shown: str
    waits: bool
    here: on_worker.Here | None = None

    def numerics(self, precision: str | None = None) -> dict[str, Any]:
        """What the workers compute with; `precision` is that of work that leaves the user no choice."""
        assert self.here is not None
        found = dict(self.here.numerics) | ({} if precision in (None, "auto") else {"precision": precision})
        del found["threads"]
        return found

    def session(self) -> Session:
        """With the device and the threads that every worker takes, and nothing that stays in this process."""
        return replace(self.asked(), device=self.numerics()["device"].partition(":")[0])

    def asked(self) -> Session:
        """What every worker is asked to compute with, before one of them has told its device."""
        threads = self.own.threads or torch.get_num_threads()
        return replace(self.own, threads=threads, quiet=True, cluster="", scratch=Path(), shows=Silent())

    def finished(
        self, work: Work, blocks: Blocks, parts: Sequence[Sized], report: Report
    ) -> Iterator[tuple[int, Tensors]]:
        """Every block with its number: those that were kept, then the others as they come."""
        missing = deque(number for number in range(len(parts)) if not blocks.has(number))
        total, kept = sum(map(len, parts)), sorted(set(range(len(parts))) - set(missing))
        done = total - sum(len(parts[number]) for number in missing)
        if done:
            report(done, total)
        for number in kept:
            yield number, blocks.read(number) or {}
        sent, running = pickle.dumps(_absolute(replace(work, opened=None))), dict[Any, int]()
        try:
            while missing or running:
                for _ in range(AHEAD * max(1, self.workers()) - len(running)):
                    if missing:
                        number = missing.popleft()
                        running[self._submit(sent, parts[number])] = number
                for future in self._ended(running):
                    number = running.pop(future)
                    block = self._result(future, parts, number)
                    future.release()
                    blocks.write(number, block)
                    done += len(parts[number])
                    report(done, total)
                    yield number, block
        finally:
            for future in running:
                future.cancel()

    def _submit(self, work: bytes, part: Any) -> Any:
        given = (pickle.dumps(self.asked()), work, pickle.dumps(_absolute(part)))
        with self.gone():
            return self.client.submit(on_worker.made, self.here, self.stage, *given, pure=False)

    def _ended(self, running: Mapping[Any, int]) -> list[Any]:
        """The blocks that have ended; waits for one, and sees meanwhile that there is a worker."""
        import distributed

        alone = 0.0
        while True:
            with self.gone(), contextlib.suppress(TimeoutError):
                distributed.wait(list(running), timeout=LOOK, return_when="FIRST_COMPLETED")
                return [future for future in running if future.done()]
            alone = 0.0 if self.workers() else alone + LOOK
            if alone >= WAIT and not self.waits:
                raise NoisyctlError(
                    f"{self.shown} has had no worker with free memory for {WAIT:g} s; start some, and run the same "
                    "command: it goes on from there"
                )

    def _result(self, future: Any, parts: Sequence[Sized], number: int) -> Tensors:
        """The block. Raises what its worker raised, and NoisyctlError where its workers die."""
        import distributed
        from safetensors.torch import load

        try:
            with self.gone():
                found: Tensors = load(future.result())
                return found
        except distributed.KilledWorker as error:
            raise NoisyctlError(
                f"{self.stage}: block {number} of {len(parts)} ended its worker {error.allowed_failures + 1} times, as "
                "too little memory does; give each worker more, or start fewer of them, and run the same command: it goes "
                "on from there"
            ) from error
        except ImportError as error:
            raise NoisyctlError(_without_noisyctl(self.shown, error)) from error

    def workers(self) -> int:
        """How many workers there are now. One that Dask has paused, since its memory is full, makes nothing."""
        with self.gone():
            found = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return sum(about["status"] != "paused" for about in found)

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        """Inside, a scheduler that does not answer any more is told as such."""
        import asyncio
        import concurrent.futures

        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        cancelled = (asyncio.CancelledError, concurrent.futures.CancelledError, FutureCancelledError)
        try:
            yield
        except TimeoutError:
            raise
        except (*cancelled, CommClosedError, OSError, RuntimeError) as error:
            if self.client.status == "running" and not isinstance(error, cancelled):
                raise
            raise NoisyctlError(
                f"{self.shown} does not answer any more; start it again, and run the same command: it goes on from the "
                "blocks that are there"
            ) from error


def _met(cluster: Cluster) -> Cluster:
    """The cluster, once a first worker has told what it is. Raises NoisyctlError where it is of another version."""
    import distributed

    if not cluster.workers():
        cluster.own.say(f"waiting for the first worker of {cluster.shown}")
        try:
            cluster.client.wait_for_workers(1, timeout=None if cluster.waits else WAIT)
        except TimeoutError:
            raise NoisyctlError(
                f"{cluster.shown} has no worker after {WAIT:g} s; start some with `dask worker`, with noisyctl installed"
            ) from None
    with cluster.gone():
        try:
            asked = pickle.dumps(cluster.asked())
            here = cluster.client.submit(on_worker.met, cluster.stage, asked, pure=False).result()
        except distributed.KilledWorker as error:
            raise NoisyctlError(
                f"workers of {cluster.shown} died as they imported noisyctl; see their output"
            ) from error
        except ImportError as error:
            raise NoisyctlError(_without_noisyctl(cluster.shown, error)) from error
    if here.versions != (mine := on_worker.versions(cluster.stage)):
        raise NoisyctlError(on_worker.other_version(here.name, here.versions, mine))
    cluster.here = here
    return cluster


def _without_noisyctl(shown: str, error: ImportError) -> str:
    return f"a worker of {shown} cannot import what this command needs ({error}); install the same noisyctl there"


def _distributed() -> Any:
    try:
        import cryptography  # noqa: F401  for the certificates of local workers
        import distributed
    except ImportError:
        raise NoisyctlError("--cluster needs Dask: pip install 'noisyctl[cluster]'") from None
    return distributed


@contextlib.contextmanager
def _address(session: Session, distributed: Any) -> Iterator[tuple[Any, str, bool]]:
    """What a client connects to, how it is shown, and whether its workers may come late."""
    text = session.cluster
    kind, _, rest = text.partition(":")
    if kind == "local":
        if not (rest.isascii() and rest.isdecimal() and int(rest) > 0):
            raise ParamsError(f"--cluster is {text!r}; give a number of workers, such as local:2")
        shown = f"{rest} local worker{'s' if int(rest) > 1 else ''}"
        with _closed(local(int(rest), distributed)) as cluster:
            yield cluster, shown, False
    elif text.startswith(("tcp://", "tls://")):
        yield text, f"the scheduler {text}", False
    elif text.endswith((".yaml", ".yml")):
        with _closed(from_file(Path(text))) as cluster:
            yield cluster, f"{type(cluster).__name__} of {text}", True
    else:
        raise ParamsError(
            f"--cluster is {text!r}; give local:N, tcp://HOST:PORT, or the name of a .yaml file"
        )


def local(number: int, distributed: Any) -> Any:
    """Workers on this machine, which share its memory. They end with this process, however it ends."""
    from distributed.system import MEMORY_LIMIT

    with _without_warnings():
        return distributed.LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            memory_limit=MEMORY_LIMIT // number,
            dashboard_address="127.0.0.1:0",  # any port that is free
            silence_logs=logging.CRITICAL + 1,
            security=distributed.Security.temporary(),  # nobody else on this machine may have code run here
        )


@contextlib.contextmanager
def _closed(cluster: Any) -> Iterator[Any]:
    """Inside, the cluster runs. Its workers on this machine are ended at once: they hold nothing that is not kept."""
    try:
        yield cluster
    finally:
        import distributed

        for nanny in cluster.workers.values():
            if isinstance(nanny, distributed.Nanny) and nanny.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGKILL)
        # dask-jobqueue 0.9 asserts a status that it never sets, when it has cancelled its jobs
        with contextlib.suppress(TimeoutError, OSError, AssertionError):
            cluster.close()


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Processes that are started inside do not warn of what ended workers have left to be cleaned up."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker"]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def from_file(path: Path) -> Any:
    """The cluster that a file names: its class, a number of workers, and the arguments of the class."""
    name, number, arguments = read_file(path)
    package = CLASSES[name]
    try:
        cls = vars(importlib.import_module(package))[name]
    except ImportError:
        missing = package.partition(".")[0].replace("_", "-")
        raise NoisyctlError(f"{path}: {name} needs {missing}: pip install {missing}") from None
    known = _arguments_of(cls)
    for argument in arguments:
        if argument == "n_workers":
            raise ParamsError(f"{path}: arguments.n_workers: write `workers: {arguments[argument]}` instead")
        if known and argument not in known:
            raise ParamsError(
                f"{path}: arguments.{argument} is no argument of {name}; {suggest(argument, sorted(known))}"
            )
    try:
        return cls(n_workers=number, **arguments)
    except (TypeError, ValueError) as error:
        raise ParamsError(f"{path}: {name} refuses its arguments: {str(error).splitlines()[0]}") from error


def read_file(path: Path) -> tuple[str, int, dict[str, Any]]:
    """Class, number of workers and arguments. Raises ParamsError that names what is wrong in the file."""
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ParamsError(f"--cluster {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ParamsError(
            f"{path} is no mapping; write `cluster: SLURMCluster`, `workers: 4`, `arguments: {{...}}`"
        )
    if unknown := [key for key in found if key not in KEYS]:
        raise ParamsError(f"{path}: {unknown[0]!r} is not a key here; {suggest(str(unknown[0]), KEYS)}")
    name, number, arguments = found.get("cluster"), found.get("workers", 1), found.get("arguments") or {}
    if name not in CLASSES:
        raise ParamsError(f"{path}: cluster is {name!r}; {suggest(str(name), CLASSES)}")
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ParamsError(f"{path}: workers is {number!r}; give a whole number from 1 on")
    if not isinstance(arguments, dict):
        raise ParamsError(
            f"{path}: arguments is {arguments!r}; give each with its name, as in `memory: 16GB`"
        )
    return name, number, arguments


def _arguments_of(cls: Any) -> set[str]:
    """The arguments of a class, of those it is derived from, and of the jobs that it starts."""
    found: set[str] = set()
    for one in (cls, cls.__dict__.get("job_cls")):
        for base in one.__mro__[:-1] if one else ():
            if "__init__" in vars(base):
                kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
                given = inspect.signature(base.__init__).parameters.values()
                found |= {parameter.name for parameter in given if parameter.kind not in kinds}
    return found - {"self"}


def _absolute(value: Any) -> Any:
    """The same with absolute paths: a worker has another current folder."""
    if isinstance(value, Path):
        return value.absolute()
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(map(_absolute, value))
    if is_dataclass(value) and not isinstance(value, type | Session):
        return replace(value, **{f.name: _absolute(getattr(value, f.name)) for f in fields(value)})
    return value
