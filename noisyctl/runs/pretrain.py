"""Label-free pretraining: from images to an encoder, and its features of every image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisyctl import pretraining
from noisyctl.artifacts import store
from noisyctl.artifacts.kinds import FEATURES
from noisyctl.nn.inference import evaluating, outputs
from noisyctl.nn.networks import Classifier, build
from noisyctl.runs.samples import read_samples
from noisyctl.runs.tasks import make_task
from noisyctl.runs.train import Origin, Training, publish_label_free, spec, train_and_publish
from noisyctl.seeds import stream
from noisyctl.session import Session
from noisyctl.task import Task
from noisyctl.training.loop import Fitted

BLOCK = 1024  # features that go through the projection head at a time


def pretrain(method: str, images_path: Path, out: Path, params: Any, session: Session) -> dict[str, Any]:
    """Train an encoder on images alone and write encoder.safetensors and features.zarr to the folder `out`.

    `method` is a module of noisyctl.pretraining, `params` its Params. Gives the epochs and the width of the features.
    """
    device = session.start()
    images = read_samples(images_path, None)
    task, held_out = make_task(images, device)
    stage = f"pretrain-{method}"
    about = spec(params, images, params.embedding_size, "projection")
    network = build(about, stream(session.seed, stage, "init")).to(device)
    splits = {"features": task.images, **{f"{s}_features": x for s, x in held_out.items() if s == "test"}}
    width = 0

    def publish(fitted: Fitted, origin: Origin) -> None:
        nonlocal width
        encoder = fitted.state.network
        arrays = _features(encoder, splits, task)
        width = arrays["features"].shape[1]
        digest = publish_label_free(out / "encoder.safetensors", "encoder", encoder, origin)
        made_from = {**origin.inputs, "encoder": digest}
        store.write(out / "features.zarr", FEATURES, arrays, params=origin.params, inputs=made_from)

    training = Training(stage, pretraining.load(method), [network], task, params, inputs=images.made_from)
    train_and_publish(training, out, session, publish)
    return {"epochs": params.epochs, "features": width}


def _features(encoder: Classifier, splits: Mapping[str, Any], task: Task) -> dict[str, np.ndarray]:
    """Features [n d] and embeddings [n e] of the images of every split, on plain views."""
    assert task.views is not None
    arrays = {}
    with evaluating(encoder):
        for name, pixels in splits.items():
            features = outputs(encoder.features, pixels, task.views.plain)
            embeddings = torch.cat([encoder.head(part) for part in features.split(BLOCK)])
            arrays[name] = features.cpu().numpy()
            arrays[name.replace("features", "embeddings")] = embeddings.cpu().numpy()
    return arrays
