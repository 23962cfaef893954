"""Two dozen 8 x 8 images, and networks and params for any method: an epoch takes a hundredth of a second."""

from types import ModuleType
from typing import Any

import pipeline
import torch
from torch import Tensor, nn

from noisyctl import methods
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.seeds import stream
from noisyctl.task import EpochRecord, Task
from noisyctl.views import ImageViews

CLASSES, BATCH = 4, 8
TRUTH = torch.arange(24) % CLASSES
SPEC = NetworkSpec(
    backbone="small_cnn",
    width=2,
    channels=1,
    size=(8, 8),
    num_outputs=CLASSES,
    head="linear",
)


def task_of(labels: Tensor = TRUTH, **known: Any) -> Task:
    """Class c is bright in quarter c of the image. Neighbors are the next four samples."""
    size = len(labels)
    images = torch.randint(0, 60, (size, 8, 8, 1), generator=stream(0, "images"))
    for i in range(size):
        images[i, 2 * (i % CLASSES) : 2 * (i % CLASSES) + 2] += 180
    near = torch.stack([(torch.arange(size) + i + 1) % size for i in range(4)], dim=1)
    about = {"neighbors": near, "similarity": torch.full(near.shape, 0.5), "warmup_epochs": 1}
    views = ImageViews("digits", (0.5,), (0.5,))
    return Task(images.to(torch.uint8), views, CLASSES, torch.device("cpu"), labels=labels, **(about | known))


def networks_of(method: ModuleType) -> list[nn.Module]:
    """As many as the method starts from, all different; the clusters come last."""
    number = method.NEEDS.networks + method.NEEDS.clusters
    return [build(SPEC, stream(seed, "tiny", "init")) for seed in range(number)]


def taught_networks_of(method: ModuleType, task: Task) -> list[nn.Module]:
    """The same after an epoch on the task: their predictions are no ties, and not sure yet."""
    networks = networks_of(method)
    for network in networks:
        train("cross_entropy", task, params_of("cross_entropy", learning_rate=0.05), [network], epochs=1)
    return networks


def params_of(name: str, **values: Any) -> Any:
    """Two epochs that pass through every phase of the method, with batches of 8."""
    model = methods.load(name).Params
    sizes = {field: BATCH for field in ("batch_size", "cluster_batch_size") if field in model.model_fields}
    stages = {"stage1_epochs": 1} if "stage1_epochs" in model.model_fields else {}
    return model(**(pipeline.params_of(name, epochs=2).model_dump() | sizes | stages | values))


def train(
    name: str, task: Task, params: Any = None, networks: list[nn.Module] | None = None, epochs: int = 2
) -> tuple[Any, list[EpochRecord]]:
    """The state after some epochs, whose losses have all been finite, and the records."""
    method, params = methods.load(name), params or params_of(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of dropout
        state = method.start(networks or networks_of(method), task, params, stream(0, "start"))
        records = []
        for epoch in range(min(epochs, params.epochs)):
            records.append(method.run_epoch(state, task, params, epoch, stream(0, "epoch", epoch)))
            task.monitor.check(epoch)
    return state, records


def weights(state: Any) -> Tensor:
    modules = [value for value in vars(state).values() if isinstance(value, nn.Module)]
    return torch.cat([v.detach().float().ravel() for m in modules for v in m.state_dict().values()])
