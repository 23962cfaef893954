"""`--track`: the epochs of a training are also logged through a library of the user's, such as TensorBoard.

Logs lie in tracking/LIBRARY, below the path of the command's output; MLflow and Weights & Biases go where their own settings
say. A run that goes on from a checkpoint continues its curve. A library that fails is told once, and never again asked: it
cannot stop or change a run.
"""

from __future__ import annotations

import importlib.util
import math
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from noisyctl.errors import ParamsError
from noisyctl.session import Shows

HOME = Path("tracking")
PACKAGES = {
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "dvclive": "dvclive",
    "wandb": "wandb",
}  # to be imported
EXTRAS = {**PACKAGES, "mlflow": "mlflow-skinny"}  # to be installed


class Log(Protocol):
    """Where one training is logged."""

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """The scalars of an epoch that has ended, numbered from 0."""

    def close(self) -> None:
        """After the last epoch."""


def require(name: str) -> None:
    """Raise ParamsError, which names the command that installs it, where the library is not there."""
    if name and importlib.util.find_spec(PACKAGES[name]) is None:
        raise ParamsError(f"--track {name}: {name} is not installed; pip install {EXTRAS[name]}")


@dataclass(frozen=True)
class Tracked:
    """Shows as `shown` does, and logs the epochs of trainings by the library `name`.

    `about` names the work: the path of its output, or the command. `params` are logged once, where a library takes them.
    """

    shown: Shows
    name: str
    about: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def epochs(self, what: str) -> Callable[[int, int, Mapping[str, float]], None]:
        """Shows an epoch, then logs it. The number of the first one tells whether the run is a new one."""
        show, log, failed = self.shown.epochs(what), None, False

        def report(epoch: int, total: int, scalars: Mapping[str, float]) -> None:
            nonlocal log, failed
            show(epoch, total, scalars)
            if failed:
                return
            finite = {key: float(value) for key, value in scalars.items() if math.isfinite(value)}
            try:
                log = log or LOGS[self.name](self.about, what, epoch, self.params)
                log.write(epoch, finite)
                if epoch + 1 == total:
                    log.close()
            except Exception as error:  # whatever a library raises
                failed = True
                said = (str(error) or type(error).__name__).splitlines()[0]
                self.shown.say(f"note: {self.name} logs nothing more of this run ({said}); the run goes on")

        return report

    def steps(self, what: str, unit: str, kept: bool = False) -> Callable[[int, int], None]:
        return self.shown.steps(what, unit, kept)

    def say(self, text: str) -> None:
        self.shown.say(text)


class TensorBoard:
    def __init__(self, about: str, what: str, first: int, params: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = _folder("tensorboard", about, first)
        self.writer = SummaryWriter(str(folder), purge_step=first)
        if first == 0:
            self.writer.add_text("params", "\n".join(f"    {k} = {v}" for k, v in params.items()))

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        for key, value in scalars.items():
            self.writer.add_scalar(key, value, epoch)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class DvcLive:
    def __init__(self, about: str, what: str, first: int, params: Mapping[str, Any]) -> None:
        from dvclive import Live

        folder = _folder("dvclive", about, first)
        self.live = Live(str(folder), resume=first > 0, save_dvc_exp=False, report=None, dvcyaml=None)
        if first == 0:
            self.live.log_params({key: value for key, value in params.items() if value is not None})

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        self.live.step = epoch
        for key, value in scalars.items():
            self.live.log_metric(key, value)
        self.live.make_summary()

    def close(self) -> None:
        self.live.end()


class Mlflow:
    def __init__(self, about: str, what: str, first: int, params: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient

        if "MLFLOW_TRACKING_URI" not in os.environ:
            HOME.mkdir(exist_ok=True)
        place = os.environ.get("MLFLOW_TRACKING_URI", (HOME.absolute() / "mlflow").as_uri())
        if place.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self.client = MlflowClient(tracking_uri=place)
        found = self.client.get_experiment_by_name("noisyctl")
        experiment = found.experiment_id if found else self.client.create_experiment("noisyctl")
        before = self.client.search_runs([experiment], f"tags.`noisyctl.out` = '{about}'") if first else []
        if before:
            self.run = before[0].info.run_id
            self.client.update_run(self.run, "RUNNING")
            return
        self.run = self.client.create_run(
            experiment, run_name=about, tags={"noisyctl.out": about}
        ).info.run_id
        for key, value in params.items():
            self.client.log_param(self.run, key, value)

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        for key, value in scalars.items():
            self.client.log_metric(self.run, key, value, step=epoch)

    def close(self) -> None:
        self.client.set_terminated(self.run)


class Wandb:
    def __init__(self, about: str, what: str, first: int, params: Mapping[str, Any]) -> None:
        import wandb

        note = _folder("wandb", about, first) / "id"  # by which a run that goes on finds its curve
        if first == 0:
            note.write_text(secrets.token_hex(8))
        self.run = wandb.init(
            project="noisyctl",
            name=about,
            id=note.read_text(),
            resume="allow",
            config=dict(params),
            dir=str(HOME),
        )

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        self.run.log(dict(scalars), step=epoch)

    def close(self) -> None:
        self.run.finish()


LOGS: dict[str, Callable[[str, str, int, Mapping[str, Any]], Log]] = {
    "tensorboard": TensorBoard,
    "mlflow": Mlflow,
    "dvclive": DvcLive,
    "wandb": Wandb,
}


def _folder(library: str, about: str, first: int) -> Path:
    """The folder of a log. Where the run begins anew, the files of an earlier one go, and logs in folders below it stay."""
    folder = HOME.joinpath(library, *(part for part in Path(about).parts if part not in ("/", "..")))
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir() if first == 0 else ():
        if file.is_file():
            file.unlink()
    return folder
