"""MoCo v2: tell an image's other view from the images in a queue, encoded by a slowly moving teacher.

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020; v2: Chen et al., "Improved
Baselines with Momentum Contrastive Learning", arXiv 2020. Steps (Algorithm 1):

  [1] two views of each image: the network encodes one (queries), the teacher the other (keys), L2-normalized
  [2] shuffled batch norm: keys are normalized in other company than their queries    (section 3.3)
  [3] cross-entropy of the own key against all keys of the queue                      (Eq. 1)
  [4] the teacher follows the network                                                 (Eq. 2)
  [5] the keys take the place of the oldest in the queue
v2 adds the hidden layer of the projection head, blur in the view, and the cosine schedule.
Shuffling needs groups, which are the paper's GPUs. On one device the batch is split in `batch_norm_groups` groups that are
normalized each by itself, and `shuffle` deals the keys anew, so that the statistics do not tell which key is a query's.
Differs from the paper: groups of one device instead of GPUs; running statistics average over all groups.
Differs from the authors' code: not known; it was not read.
Shapes: b = batch, d = embedding, q = queue.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import batch_norm, normalize
from torch.nn.modules.batchnorm import _BatchNorm

from noisyctl.errors import ParamsError
from noisyctl.nn.teacher import make_teacher, update_teacher
from noisyctl.params import Params as Base
from noisyctl.params import param
from noisyctl.parts.schedules import cosine
from noisyctl.task import EpochRecord, Needs, Task, state

NEEDS = Needs(networks=1, warmup=False)


class Params(Base):
    """`moco` in params.yaml."""

    backbone: str = param("resnet18", "network", source="ours: as simclr; MoCo ResNet-50")
    width: int | None = param(None, "channels of the first stage; none: the paper's", ge=1)
    embedding_size: int = param(128, "outputs of the projection head", source="MoCo 3.3; ScanMix 4.2", ge=2)
    epochs: int = param(500, "epochs", source="ScanMix 4.2: WebVision; MoCo v2 200 and 800", ge=0)
    batch_size: int = param(128, "images a step, two views each", source="ScanMix 4.2: WebVision", ge=2)
    learning_rate: float = param(
        0.015, "at the start of the cosine", source="ScanMix 4.2: WebVision; MoCo v2 0.03 at batch 256", gt=0
    )
    weight_decay: float = param(
        1e-4, "L2 penalty on all weights of the optimizer", source="MoCo 4; ScanMix 4.2", ge=0
    )
    temperature: float = param(0.2, "[tau]", source="MoCo v2", gt=0)
    queue_size: int = param(
        65536, "keys to tell the own one from [K]", source="MoCo 4; MoCo's CIFAR demo: 4096 on 32 x 32", ge=1
    )
    teacher_momentum: float = param(
        0.999, "weight of the old teacher [m]; runs of few steps want less", source="MoCo 3.2", ge=0, lt=1
    )
    batch_norm: Literal["shuffle", "split", "plain"] = param(
        "shuffle",
        "plain: over the batch; split: over groups of it; shuffle: keys in other groups",
        source="MoCo 3.3",
    )
    batch_norm_groups: int = param(
        4, "parts of a batch, not for plain", source="ScanMix 4.2: 4 GPUs; MoCo 4: 8 at batch 256", ge=1
    )


@state
class State:
    network: nn.Module
    teacher: nn.Module
    optimizer: torch.optim.Optimizer
    queue: Tensor  # [q d], unit rows
    pointer: int  # of the oldest key


def start(networks: list[nn.Module], task: Task, params: Params, rng: Generator) -> State:
    _check(params)
    (network,) = networks
    teacher = make_teacher(network)
    if params.batch_norm != "plain":
        split_batch_norms(network, params.batch_norm_groups)
        split_batch_norms(teacher, params.batch_norm_groups)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=params.learning_rate, momentum=0.9, weight_decay=params.weight_decay
    )
    queue = torch.randn(params.queue_size, params.embedding_size, generator=rng, device=rng.device)
    return State(network, teacher, optimizer, normalize(queue, dim=1).to(task.device), 0)


def run_epoch(state: State, task: Task, params: Params, epoch: int, rng: Generator) -> EpochRecord:
    rate = cosine(epoch, params.epochs, params.learning_rate)
    task.set_learning_rate(state.optimizer, rate)
    state.network.train()
    state.teacher.train()
    total, steps = torch.zeros((), device=task.device), 0
    for index in task.batches(params.batch_size, rng, drop_last=True):
        queries = normalize(state.network(task.moco(index, rng)).float(), dim=1)  # [1]
        order = torch.arange(len(index), device=task.device)
        if params.batch_norm == "shuffle":  # [2]
            order = torch.randperm(len(index), generator=rng, device=rng.device).to(task.device)
        keys = encode_keys(state.teacher, task.moco(index, rng), order)
        loss = info_nce(queries, keys, state.queue, params.temperature).mean()  # [3]
        task.step(loss, state.optimizer)
        update_teacher(state.teacher, state.network, params.teacher_momentum)  # [4]
        state.pointer = enqueue(state.queue, keys, state.pointer)  # [5]
        total, steps = total + loss.detach(), steps + 1
    return EpochRecord(task, learning_rate=rate, loss=float(total) / steps)


def predict(state: State, images: Tensor) -> Tensor:
    return state.network(images)


def info_nce(
    queries: Float[Tensor, "b d"], keys: Float[Tensor, "b d"], queue: Float[Tensor, "q d"], temperature: float
) -> Float[Tensor, " b"]:
    """Eq. 1, of unit rows: the own key against itself and the queue."""
    with torch.autocast(queries.device.type, enabled=False):
        own = (queries * keys).sum(dim=1, keepdim=True)
        logits = torch.cat([own, queries @ queue.T], dim=1) / temperature
    return logits.logsumexp(dim=1) - logits[:, 0]


@torch.no_grad()
def encode_keys(
    teacher: nn.Module, views: Float[Tensor, "b ch h w"], order: Int[Tensor, " b"]
) -> Float[Tensor, "b d"]:
    """Unit embeddings of the views, encoded in the given order, in the order they came in."""
    return normalize(teacher(views[order]).float(), dim=1)[order.argsort()]


def enqueue(queue: Float[Tensor, "q d"], keys: Float[Tensor, "b d"], pointer: int) -> int:
    """Write the keys over the oldest, from `pointer` on and round the end, and give the next place."""
    queue[torch.arange(pointer, pointer + len(keys), device=queue.device) % len(queue)] = keys
    return (pointer + len(keys)) % len(queue)


class SplitBatchNorm(_BatchNorm):
    """A batch norm that normalizes groups of the batch each by itself: sample i is in group i mod `groups`.

    It shares the plain one's parameters and buffers, is the plain one in eval mode, and on a batch that does not divide
    takes the most groups that do.
    """

    def __init__(self, plain: _BatchNorm, groups: int) -> None:
        super().__init__(plain.num_features, plain.eps, plain.momentum)
        self.groups, self.weight, self.bias = groups, plain.weight, plain.bias
        self.running_mean, self.running_var = plain.running_mean, plain.running_var
        self.num_batches_tracked = plain.num_batches_tracked

    def forward(self, x: Float[Tensor, "b c *hw"]) -> Float[Tensor, "b c *hw"]:
        groups = math.gcd(len(x), self.groups) if self.training else 1
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        mean, var = self.running_mean.repeat(groups), self.running_var.repeat(groups)
        out = batch_norm(
            x.reshape(len(x) // groups, -1, *x.shape[2:]),  # groups stand side by side as channels
            mean,
            var,
            self.weight.repeat(groups),
            self.bias.repeat(groups),
            self.training,
            self.momentum,
            self.eps,
        )
        if self.training:
            self.running_mean.copy_(mean.view(groups, -1).mean(dim=0))
            self.running_var.copy_(var.view(groups, -1).mean(dim=0))
        return out.reshape(x.shape)


def split_batch_norms(network: nn.Module, groups: int) -> None:
    """Put a SplitBatchNorm in the place of every batch norm; names in the state dict stay."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SplitBatchNorm(child, groups))


def _check(params: Params) -> None:
    if params.queue_size < params.batch_size:
        raise ParamsError(
            f"moco.queue_size is {params.queue_size}, moco.batch_size {params.batch_size}: the queue must hold a batch; "
            f"give a queue_size of {params.batch_size} or more"
        )
    if params.batch_norm != "plain" and params.batch_size % params.batch_norm_groups:
        raise ParamsError(
            f"moco.batch_size {params.batch_size} does not divide into moco.batch_norm_groups "
            f"{params.batch_norm_groups} groups; give a multiple, or batch_norm plain"
        )
