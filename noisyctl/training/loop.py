"""The runner: epochs, checkpoints, exact resume and traces. It contains no method's name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisyctl.nn.compiled import compile_backbones
from noisyctl.nn.inference import BATCH, evaluating, modules_of, outputs
from noisyctl.nn.networks import LAYOUT
from noisyctl.precision import Precision
from noisyctl.seeds import draw_seed, stream
from noisyctl.task import EpochRecord, Method, PredictsFurther, Reporter, Task
from noisyctl.training import checkpoint
from noisyctl.training.scratch import Scratch

TRACE_NAMES = {"predictions": "train_predictions"}
NO_PREDICTION = -1
TOP5_CLASSES = 20  # with more classes, the five likeliest ones are also kept


@dataclass
class Fitted:
    """A finished run: its last state, and the arrays that it leaves for evaluation."""

    state: Any
    arrays: dict[str, np.ndarray]


def fit(
    method: Method,
    networks: Sequence[nn.Module],
    task: Task,
    params: Any,
    *,
    name: str,
    epochs: int,
    seed: int,
    scratch: Scratch,
    held_out: Mapping[str, Any] | None = None,
    report: Reporter | None = None,
    precision: Precision = "float32",
    compiled: bool = False,
    test_every: int = 1,
) -> Fitted:
    """Run `epochs` epochs of a method, continuing from the checkpoint in `scratch` if there is one.

    The random generators of an epoch depend only on (seed, name, epoch), and a checkpoint is the whole State. So a
    run that was killed at any moment and resumed ends with the same bytes as one that was not.

    `held_out` are the images of other splits, by name. The method's predictions on them go to the trace; nothing in
    training sees them. `test_every` is after how many epochs they are predicted, and after the last one; 0 is after the
    last one alone. In the other epochs the trace has -1 for them. It changes no trained byte.

    With precision bfloat16 the forward passes are autocast; weights, batch statistics, logits, losses and the gradients of
    weights stay float32. With `compiled` the State's backbones are compiled. Raises TrainingError if a loss is not finite.
    """
    held_out = held_out or {}
    state = _started(method, networks, task, params, name, seed)
    if compiled:
        compile_backbones(nn.ModuleList(modules_of(state).values()))
    done, scalars = 0, []
    saved = scratch.load()
    if saved is not None:
        checkpoint.unpack(state, saved[0], saved[1]["tree"])
        done, scalars = saved[1]["epoch"], saved[1]["scalars"]
    for epoch in range(done, epochs):
        with _seeded(stream(seed, name, "global", epoch)), _autocast(task.device, precision):
            record = method.run_epoch(
                state, task, params, epoch, stream(seed, name, epoch, device=task.device)
            )
        task.monitor.check(epoch)
        scalars.append({key: float(value) for key, value in record.scalars.items()})
        with _autocast(task.device, precision):
            shown = held_out if _is_tested(epoch, epochs, test_every) else {}
            _trace_epoch(method, state, task, record, epoch, shown, scratch)
        scratch.save(epoch + 1, *checkpoint.pack(state), scalars)
        if report:
            report(epoch, epochs, scalars[-1])
    arrays = _rows(scratch, epochs, held_out) if epochs else {}
    for key in scalars[0] if scalars else ():
        arrays[f"scalar_{key}"] = np.array([row[key] for row in scalars])
    if len(task.validation_index):
        arrays["validation"] = np.zeros(task.num_samples, bool)
        arrays["validation"][task.validation_index.cpu().numpy()] = True
    with _autocast(task.device, precision):
        return Fitted(state, arrays | _last_epoch(method, state, task, held_out))


def _started(
    method: Method, networks: Sequence[nn.Module], task: Task, params: Any, name: str, seed: int
) -> Any:
    """The State before the first epoch."""
    networks = [network.to(memory_format=LAYOUT) for network in networks]
    with _seeded(stream(seed, name, "start")):
        return method.start(networks, task, params, stream(seed, name, "start", device=task.device))


def _is_tested(epoch: int, epochs: int, every: int) -> bool:
    return epoch == epochs - 1 or (every > 0 and (epoch + 1) % every == 0)


def _rows(scratch: Scratch, epochs: int, held_out: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The trace's vectors by name, stacked; held-out images have no prediction in an epoch that did not test them."""
    found = {}
    for key in scratch.row_names():
        tested = any(key.startswith((f"{split}_predictions", f"{split}_top5")) for split in held_out)
        found[key] = scratch.rows(key, epochs, NO_PREDICTION if tested else None)
    return found


def _trace_epoch(
    method: Method,
    state: Any,
    task: Task,
    record: EpochRecord,
    epoch: int,
    held_out: Mapping[str, Any],
    scratch: Scratch,
) -> None:
    """Write an epoch's vectors, and the predictions on other splits and on held-out samples, to the trace."""
    for key, vector in record.vectors.items():
        scratch.write_row(TRACE_NAMES.get(key, key), epoch, vector.cpu().numpy())
    validation = (
        {"validation": _Part(task.images, task.validation_index)} if len(task.validation_index) else {}
    )
    for split, images in {**held_out, **validation}.items():
        logits = _predict(method, state, task, images)
        if logits is None:
            continue
        scratch.write_row(f"{split}_predictions", epoch, logits.argmax(dim=1).cpu().numpy())
        if task.num_classes > TOP5_CLASSES and split in held_out:
            scratch.write_row(f"{split}_top5", epoch, logits.topk(5).indices.cpu().numpy())
    for split, images in held_out.items():
        for name, further in _predict_further(method, state, task, images).items():
            found = torch.where(further.isfinite().all(dim=1), further.argmax(dim=1), NO_PREDICTION)
            scratch.write_row(f"{split}_predictions_of_{name}", epoch, found.cpu().numpy())


def _last_epoch(method: Method, state: Any, task: Task, held_out: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The probabilities that the last state predicts for all splits, the training images included."""
    splits = dict(held_out) | ({} if task.images is None else {"train": task.images})
    arrays = {}
    for split, images in splits.items():
        logits = _predict(method, state, task, images)
        if logits is not None:
            arrays[f"{split}_probabilities"] = logits.float().softmax(dim=1).cpu().numpy()
    return arrays


def _predict(method: Method, state: Any, task: Task, images: Any) -> Tensor | None:
    """Logits of the method for these images; None if it has no network or the data set has no images."""
    modules = modules_of(state)
    if not modules or task.views is None:
        return None
    with evaluating(*modules.values()):
        return outputs(lambda views: method.predict(state, views), images, task.views.plain)


def _predict_further(method: Method, state: Any, task: Task, images: Any) -> dict[str, Tensor]:
    """Logits of the classifiers that a method has beside `predict`, by name."""
    modules = modules_of(state)
    if not isinstance(method, PredictsFurther) or not modules or task.views is None:
        return {}
    with evaluating(*modules.values()):
        blocks = [method.predict_further(state, task.views.plain(block)) for block in images.split(BATCH)]
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def _autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Autocast without a cache of weights.

    The cache would keep the converted weights of the first step until the end of the epoch.
    """
    enabled = precision == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)


@dataclass(frozen=True)
class _Part:
    """The images at some positions, which can be read in blocks."""

    images: Any
    index: Tensor

    def split(self, size: int) -> Iterator[Tensor]:
        return (self.images[part] for part in self.index.split(size))


class _seeded:
    """Inside, torch's global generator is seeded; afterwards it is what it was before.

    Dropout layers draw from it. Nothing else may.
    """

    def __init__(self, rng: torch.Generator) -> None:
        self._seed, self._fork = draw_seed(rng), torch.random.fork_rng()

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.manual_seed(self._seed)

    def __exit__(self, *error: Any) -> None:
        self._fork.__exit__(*error)
