"""What an epoch of each method costs: images forwarded and images that a gradient flows back from, counted by hooks.

    python benchmarks/costs.py

512 digits, symmetric noise 0.4 without the true class, two networks after 10 epochs of cross-entropy; each method with its
paper's params. Epoch 150, in which all methods are past their first phases, goes ahead uncounted; the ten after it are
counted, so that what happens every tenth epoch counts for a tenth. Numbers are per training image and epoch. For DivideMix
and ScanMix they depend on the share of samples held for clean: an epoch is a pass over these. Writes costs.yaml to --out.
"""

import argparse
import copy
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from noisyctl import methods
from noisyctl.datasets import digits
from noisyctl.methods import cross_entropy
from noisyctl.nn.inference import modules_of
from noisyctl.nn.networks import NetworkSpec, build
from noisyctl.noise import symmetric
from noisyctl.parts import neighbors
from noisyctl.seeds import numpy_stream, stream
from noisyctl.task import Task
from noisyctl.views import ImageViews

SIZE, EPOCH, COUNTED, WARMUP = 512, 150, 10, 10
SPEC = NetworkSpec(
    backbone="small_cnn",
    width=16,
    channels=1,
    size=(8, 8),
    num_outputs=10,
    head="linear",
)
PARAMS: dict[str, dict[str, Any]] = {
    "two_stage": {"stage1_epochs": EPOCH}
}  # stage 2 begins in the uncounted epoch


@dataclass
class Count:
    """Images seen by the backbones of some networks, and those that a gradient came back from."""

    forward: int = 0
    backward: int = 0

    def watch(self, network: nn.Module) -> None:
        """Count from now on. A backbone is `features`; a head alone has none and costs next to nothing."""

        def back(gradient: Tensor) -> None:
            self.backward += len(gradient)

        def seen(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.forward += len(inputs[0])
            if output.requires_grad:
                output.register_hook(back)

        for name, module in network.named_modules():
            if name == "features":
                module.register_forward_hook(seen)


def cost(method: ModuleType, networks: list[nn.Module], task: Task, params: Any) -> dict[str, float]:
    """Forward and backward images per training image and epoch, in the main phase of a method."""
    rng = stream(0, "costs")
    state = method.start(networks, task, params, rng)
    method.run_epoch(state, task, params, EPOCH, rng)
    count = Count()
    for network in modules_of(state).values():
        count.watch(network)
    for epoch in range(EPOCH + 1, EPOCH + 1 + COUNTED):
        method.run_epoch(state, task, params, epoch, rng)
    seen = COUNTED * task.num_samples
    return {"forward": round(count.forward / seen, 2), "backward": round(count.backward / seen, 2)}


def make_task(validation_rate: float = 0.0) -> Task:
    data = digits.prepare(digits.Params())
    images = torch.as_tensor(data.splits["train"].images[:SIZE])
    clean, noise = data.truth["train"][:SIZE], symmetric.Params(rate=0.4, include_true_class=False)
    noisy = symmetric.corrupt(clean, 10, noise, numpy_stream(0, "costs"))
    mined = neighbors.mine(images.flatten(1).float().numpy(), 20, engine="torch")
    held_out = torch.arange(round(validation_rate * SIZE)) if validation_rate else None
    found = torch.as_tensor(mined.indices).long(), torch.as_tensor(mined.similarity)
    return Task(
        images,
        ImageViews("digits", (0.3,), (0.38,)),
        10,
        torch.device("cpu"),
        torch.as_tensor(noisy),
        *found,
        warmup_epochs=WARMUP,
        held_out=held_out,
    )


def warm_networks(task: Task) -> list[nn.Module]:
    """Two, and a third one in the place of label-free clusters."""
    networks: list[nn.Module] = []
    params = cross_entropy.Params(epochs=WARMUP, batch_size=64)
    for k in range(3):
        networks.append(build(SPEC, stream(k, "costs", "init")))
        state = cross_entropy.start(networks[-1:], task, params, stream(k, "costs", "start"))
        for epoch in range(WARMUP):
            cross_entropy.run_epoch(state, task, params, epoch, stream(k, "costs", epoch))
    return networks


def costs(names: list[str]) -> dict[str, dict[str, float]]:
    """Of every method named."""
    warm, found = warm_networks(make_task()), {}
    for name in names:
        method = methods.load(name)
        params = method.Params(**PARAMS.get(name, {}))
        number = max(method.NEEDS.networks, 1)
        networks = warm[:number] + warm[2:] if method.NEEDS.clusters else warm[:number]
        found[name] = cost(method, copy.deepcopy(networks), make_task(params.validation_rate), params)
        print(name, found[name], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("noisyctl/papers/data"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = costs(list(methods.available()))
    head = "# python benchmarks/costs.py: images per training image and epoch, in a method's main phase\n"
    (options.out / "costs.yaml").write_text(head + yaml.safe_dump(found, default_flow_style=None))


if __name__ == "__main__":
    main()
