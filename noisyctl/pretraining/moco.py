"""MoCo v2: tell an image's other view from the images in a queue, encoded by a slowly moving teacher.

Two random views of each image are encoded, one by the network and one by the teacher, whose weights are a moving average
of the network's. The network learns to recognize the teacher's encoding of the same image among the encodings of many
earlier images, which a queue holds. No labels are used.

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020; v2: Chen et al., "Improved
Baselines with Momentum Contrastive Learning", arXiv 2020. Steps (Algorithm 1):

  [1] two views of each image: the network encodes one (queries), the teacher the other (keys), L2-normalized
  [2] shuffled batch norm: keys are normalized together with other keys than their queries   (section 3.3)
  [3] cross-entropy of the own key against all keys of the queue                             (Eq. 1)
  [4] the teacher follows the network                                                        (Eq. 2)
  [5] the new keys replace the oldest ones in the queue

v2 adds the hidden layer of the projection head, blur in the views, and the cosine schedule.

Shuffling needs groups, which in the paper are GPUs. On one device the batch is split into `batch_norm_groups` groups,
each of which is normalized by itself; `shuffle` distributes the keys over the groups in a new order, so that the batch
statistics do not give away which key belongs to a query.

Differs from the paper:
  - The groups are on one device and not on several GPUs.
  - Running statistics are the average over all groups.
Differs from the authors' code:
  - Not known, since the code was not read.
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

    backbone: str = param("resnet18", "name of the backbone", source="ours: as simclr; MoCo ResNet-50")
    width: int | None = param(None, "channels of the backbone's first stage; none: the paper's number", ge=1)
    embedding_size: int = param(
        128, "number of outputs of the projection head", source="MoCo 3.3; ScanMix 4.2", ge=2
    )
    epochs: int = param(
        500, "epochs of pretraining", source="ScanMix 4.2: WebVision; MoCo v2 200 and 800", ge=0
    )
    batch_size: int = param(
        128, "images in a batch, each in two views", source="ScanMix 4.2: WebVision", ge=2
    )
    learning_rate: float = param(
        0.015,
        "learning rate at the start of the cosine",
        source="ScanMix 4.2: WebVision; MoCo v2 0.03 at batch 256",
        gt=0,
    )
    weight_decay: float = param(
        1e-4, "weight decay (L2 penalty) of the optimizer", source="MoCo 4; ScanMix 4.2", ge=0
    )
    temperature: float = param(0.2, "temperature of the softmax over the keys [tau]", source="MoCo v2", gt=0)
    queue_size: int = param(
        65536,
        "number of keys in the queue, from which the own key is told [K]",
        source="MoCo 4; MoCo's CIFAR demo: 4096 on 32 x 32",
        ge=1,
    )
    teacher_momentum: float = param(
        0.999,
        "weight of the old teacher when it follows the network [m]; short runs need a lower value",
        source="MoCo 3.2",
        ge=0,
        lt=1,
    )
    batch_norm: Literal["shuffle", "split", "plain"] = param(
        "shuffle",
        "batch statistics; plain: of the whole batch; split: of groups of it; shuffle: of groups, with the "
        "keys in other groups than their queries",
        source="MoCo 3.3",
    )
    batch_norm_groups: int = param(
        4,
        "number of groups that a batch is split into; not used for plain",
        source="ScanMix 4.2: 4 GPUs; MoCo 4: 8 at batch 256",
        ge=1,
    )


@state
class State:
    network: nn.Module
    teacher: nn.Module
    optimizer: torch.optim.Optimizer
    queue: Tensor  # [q d], unit rows
    pointer: int  # position of the oldest key


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
    """Eq. 1 for each query, from unit rows: the own key against itself and all keys of the queue."""
    with torch.autocast(queries.device.type, enabled=False):
        own = (queries * keys).sum(dim=1, keepdim=True)
        logits = torch.cat([own, queries @ queue.T], dim=1) / temperature
    return logits.logsumexp(dim=1) - logits[:, 0]


@torch.no_grad()
def encode_keys(
    teacher: nn.Module, views: Float[Tensor, "b ch h w"], order: Int[Tensor, " b"]
) -> Float[Tensor, "b d"]:
    """Unit embeddings of the views, in the order of the views.

    The teacher gets the views in the order `order`, which decides the batch-norm group of each.
    """
    return normalize(teacher(views[order]).float(), dim=1)[order.argsort()]


def enqueue(queue: Float[Tensor, "q d"], keys: Float[Tensor, "b d"], pointer: int) -> int:
    """Write the keys over the oldest ones in the queue; returns the position of the next key to be replaced.

    Writing starts at `pointer` and goes on at the start of the queue when its end is reached.
    """
    queue[torch.arange(pointer, pointer + len(keys), device=queue.device) % len(queue)] = keys
    return (pointer + len(keys)) % len(queue)


class SplitBatchNorm(_BatchNorm):
    """A batch norm that normalizes groups of the batch separately: sample i is in group i mod `groups`.

    It shares the parameters and buffers of the plain batch norm, and does the same as that in eval mode. A batch that
    cannot be divided into `groups` equal groups is divided into the largest number of groups that divides both.
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
            x.reshape(len(x) // groups, -1, *x.shape[2:]),  # the groups become additional channels
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
    """Replace every batch norm of a network by a SplitBatchNorm; the names in the state dict stay the same."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SplitBatchNorm(child, groups))


def _check(params: Params) -> None:
    """Raises ParamsError if the queue cannot hold a batch, or a batch cannot be divided into its groups."""
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
