"""The table of commands: where each is declared, and what the list of commands says of it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

COMMANDS = {  # module, with what it makes the command of where it makes several, and the summary
    "clean": (
        "stages.clean",
        "Find the wrong labels in a folder of photos, and write a report to review them in.",
    ),
    "init": (
        "stages.init",
        "Make a project of your own: params.yaml, and the pipeline from your data to a table and a list.",
    ),
    "prepare-data": ("stages.prepare_data", "Bring a data set or your own folder of images to images.zarr."),
    "check-data": (
        "stages.check_data",
        "Tell whether a data set's files are whole, and where to get what is missing.",
    ),
    "inject-noise": ("stages.inject_noise", "Make noisy labels from clean ones."),
    "pretrain-simclr": ("stages.pretrain:simclr", "Train an encoder without labels (SimCLR)."),
    "pretrain-moco": ("stages.pretrain:moco", "Train an encoder without labels (MoCo v2)."),
    "embed": ("stages.embed", "Write the features of every image by an encoder that comes trained."),
    "mine-knn": ("stages.mine_knn", "Mine the nearest neighbors of every training image."),
    "cluster-scan": ("stages.cluster_scan", "Sort images into clusters without labels (SCAN)."),
    "warmup": ("stages.warmup", "Train networks on all noisy labels for a few epochs."),
    "train-method": ("stages.train_method", "Train one method on noisy labels."),
    "evaluate": ("stages.evaluate", "Judge runs: metrics, figures, and the list of labels to look at."),
    "table": ("stages.table", "Put the metrics of many runs into one table."),
    "predict": ("stages.predict", "Label a folder of images with a run's model alone."),
    "report": ("stages.report", "Write the page on which a person looks at the list and decides."),
    "why": ("stages.why", "Tell what is known of one photo of the list."),
    "apply": ("stages.apply", "Apply a person's decisions to a copy of the labels."),
    "revert": ("stages.revert", "Take back what apply did."),
    "audit": ("stages.audit", "Draw a random sample for a person, and bound the noise by the answers."),
    "export": ("stages.export", "Write the list, with decisions, for other tools; or a model as ONNX."),
    "sweep": (
        "stages.sweep",
        "Plan and run a paper, or run a dvc.yaml, several stages at a time, here or on SLURM.",
    ),
    "plan": ("stages.plan", "Plan the runs of a paper or of a grid, and tell what they cost."),
    "methods": ("stages.methods", "List the methods: what each does, its paper, what it needs."),
    "doctor": ("stages.doctor", "Tell what is installed, what is missing, what would be faster."),
    "gc": ("stages.gc", "Tell what takes space, and remove unfinished runs where asked."),
    "status": ("stages.status", "Tell which artifacts exist, which are stale, and what comes next."),
}


def stage_named(words: Sequence[str]) -> Any:
    """The declaration of a command by its words: ("mine-knn",), or ("train-method", "elr"). Raises KeyError for none."""
    place, _, argument = COMMANDS[words[0]][0].partition(":")
    module = importlib.import_module(place)
    return module.STAGE if hasattr(module, "STAGE") else module.stage(argument or words[1])
