"""The command line: a table of commands, each imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "prepare-data": ("stages.prepare_data", "Bring a data set or your own folder of images to images.zarr."),
    "check-data": (
        "stages.check_data",
        "Tell whether a data set's files are whole, and where to get what is missing.",
    ),
    "inject-noise": ("stages.inject_noise", "Make noisy labels from clean ones."),
    "pretrain-simclr": ("stages.pretrain", "Train an encoder without labels (SimCLR)."),
    "pretrain-moco": ("stages.pretrain", "Train an encoder without labels (MoCo v2)."),
    "mine-knn": ("stages.mine_knn", "Mine the nearest neighbors of every training image."),
    "cluster-scan": ("stages.cluster_scan", "Sort images into clusters without labels (SCAN)."),
    "warmup": ("stages.warmup", "Train networks on all noisy labels for a few epochs."),
    "train-method": ("stages.train_method", "Train one method on noisy labels."),
    "evaluate": ("stages.evaluate", "Judge runs: metrics, figures, and the list of labels to look at."),
    "table": ("stages.table", "Put the metrics of many runs into one table."),
    "predict": ("stages.predict", "Label a folder of images with a run's model alone."),
    "sweep": ("stages.sweep", "Run the stale stages of a dvc.yaml several at a time, here or on SLURM."),
    "plan": ("stages.plan", "Write cells.yaml, the list of warm-ups and runs that dvc.yaml makes."),
    "methods": ("stages.methods", "List the methods: what each does, its paper, what it needs."),
    "doctor": ("stages.doctor", "Tell what is installed, what is missing, what would be faster."),
    "status": ("stages.status", "Tell which artifacts exist, which are stale, and what comes next."),
}


class Commands(TyperGroup):
    """Imports a command's module when the command is asked for; the list needs none."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        if ctx.resilient_parsing or set(sys.argv[1:2]) & {"--help"}:
            return _plain(cmd_name, COMMANDS[cmd_name][1])
        from stages.options import command, method_group

        if cmd_name == "train-method":
            return method_group()
        if cmd_name == "sweep":
            from stages import sweep

            return sweep.command()
        module = importlib.import_module(COMMANDS[cmd_name][0])
        pretraining = cmd_name.removeprefix("pretrain-")
        return command(module.STAGE if pretraining == cmd_name else module.stage(pretraining))


def _plain(name: str, summary: str) -> Any:
    one = typer.Typer(add_completion=False)
    one.command(name, help=summary)(lambda: None)
    return typer.main.get_command(one)


app = typer.Typer(
    cls=Commands, help="Train image classifiers on wrong labels.", rich_markup_mode=None, no_args_is_help=True
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("noisyctl"))
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Train image classifiers on wrong labels: cached stages, robust methods, and a list of the labels to fix."""


def main() -> None:
    """Run a command; what a user can act on becomes one line and an exit code."""
    from noisyctl.errors import NoisyctlError

    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    try:
        app()
    except NoisyctlError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
