"""The options that every command has."""

from pathlib import Path
from typing import Any

from noisyctl.cli.types import OneOf, WholeNumber

COMMON: tuple[tuple[str, str, Any], ...] = (  # name, help, type
    ("dataset", "data set, or a block of `datasets:` in params.yaml", str),
    ("noise", "block of `noises:` in params.yaml, or `given` for labels as they are", str),
    ("pretrain", "the encoder whose features, neighbors and clusters are meant", str),
    ("input", "what networks see: images, or the features of --pretrain", OneOf(("images", "features"))),
    ("seed", "seed of every random draw", WholeNumber()),
    ("device", "where to compute", OneOf(("auto", "cpu", "cuda"))),
    (
        "precision",
        "of training; auto: bfloat16 where GPU or processor has its units",
        OneOf(("auto", "float32", "bfloat16")),
    ),
    ("compile", "compile the networks that are trained [off]", OneOf(("off", "on"))),
    (
        "track",
        "where a training also logs its epochs [nowhere]",
        OneOf(("tensorboard", "mlflow", "dvclive", "wandb")),
    ),
    ("threads", "threads of the CPU; 0 leaves torch's choice", WholeNumber()),
    ("params_file", "file with the parameters [params.yaml]", Path),
)
