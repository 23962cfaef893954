"""Where papers and their codes differ and a reader falls in, each trap by the fact itself.

These are asserted elsewhere: trap 4 in test_papers.py (test_rows_whose_numbers_are_known) and parts/test_parts_losses.py,
trap 9 in methods/test_jo_src.py, trap 10 in methods/test_mixnn_official.py, trap 11 in parts/test_parts_prototypes.py,
methods/test_smp.py and methods/test_two_stage.py, trap 12 in methods/test_two_network_methods.py and
parts/test_parts_small_loss.py.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from plain_views import PlainViews
from torch import Tensor, nn

from noisyctl import methods
from noisyctl.methods import dividemix, scanmix
from noisyctl.noise import asymmetric, pairflip, symmetric
from noisyctl.params import module_spec
from noisyctl.parts.mixing import mixmatch_weight
from noisyctl.parts.mixmatch import make_targets
from noisyctl.pretraining import scan
from noisyctl.runs import tasks
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.training import warmup

CLEAN = np.arange(50000) % 10
BASELINES = ("co_teaching", "decoupling", "elr", "forward", "gce", "jocor", "mixup", "nce_rce", "sce")


class Constant(nn.Module):
    """The same logits for every image; remembers the mode it was asked in."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits, self.modes = nn.Parameter(torch.tensor(logits)), list[bool]()

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.logits.expand(len(images), -1)


def task_of(size: int = 12, **known: Any) -> Task:
    images = torch.randint(256, (size, 2, 2, 1), generator=stream(0, "images"), dtype=torch.uint8)
    return Task(images, PlainViews(), 3, torch.device("cpu"), torch.arange(size) % 3, **known)


def wrong(noise: Any, clean: np.ndarray, classes: int, **values: Any) -> float:
    """Measured share of wrong labels."""
    return float(
        (noise.corrupt(clean, classes, noise.Params(**values), np.random.default_rng(0)) != clean).mean()
    )


def test_trap_1_inclusive_and_exclusive_symmetric_noise() -> None:
    """Rate .2 of ten classes: .18 wrong where the true class may be drawn (DivideMix's files), .2 where not (JoCoR)."""
    including = {"include_true_class": True, "draw": "exact_total"}
    for rate, expected in ((0.2, 0.18), (0.5, 0.45), (0.8, 0.72), (0.9, 0.81)):
        assert wrong(symmetric, CLEAN, 10, rate=rate, **including) == pytest.approx(expected, abs=0.004)
        assert wrong(symmetric, CLEAN, 10, rate=rate, include_true_class=False, draw="exact") == rate
    with pytest.raises(ValueError, match="include_true_class"):
        symmetric.Params(rate=0.2)  # neither is assumed


def test_trap_2_cat_and_dog_flip_both_ways_and_half_the_classes_stay() -> None:
    mapped = asymmetric.targets(10, asymmetric.Params(rate=0.4, map="cifar10"))
    assert (mapped[3], mapped[5]) == (5, 3)
    assert [c for c in range(10) if mapped[c] == c] == [0, 1, 6, 7, 8]
    assert (
        wrong(asymmetric, CLEAN, 10, rate=0.4, map="cifar10", draw="exact") == 0.2
    )  # half of the nominal rate


def test_trap_3_superclass_noise_of_the_codes_is_blocks_of_the_alphabet() -> None:
    blocks = asymmetric.targets(100, asymmetric.Params(rate=0.4, map="cifar100_blocks"))
    true = asymmetric.targets(100, asymmetric.Params(rate=0.4, map="cifar100_superclass"))
    groups = np.array(asymmetric.SUPERCLASS)
    assert (groups[blocks] == groups).sum() == 6
    assert (groups[true] == groups).all()
    jo_src_s = pairflip.transition_matrix(80, pairflip.Params(rate=0.4))
    assert jo_src_s[7, 8] == jo_src_s[79, 0] == 0.4


@pytest.mark.parametrize("name", ["dividemix", "scanmix", "mixnn_official"])
def test_trap_5_losses_are_averaged_by_a_parameter(name: str) -> None:
    """What it does: test_dividemix.py, test_mixnn_official.py."""
    assert methods.load(name).Params().averaged_losses == 1


def test_trap_5_no_method_can_know_the_rate() -> None:
    names = [*vars(Task), *(field.name for field in dataclasses.fields(Task))]
    words = {word for name in names for word in name.split("_")}
    assert "learning" in words  # set_learning_rate: methods are looked at too
    assert not words & {"noise", "truth", "clean", "mislabeled", "test"}


def test_trap_6_the_own_sample_weighs_more_and_the_learner_makes_targets_in_train_mode() -> None:
    assert (mixmatch_weight(torch.tensor([0.1, 0.5, 0.8])) >= 0.5).all()
    learner, peer = Constant(0.0, 0.0).train(), Constant(0.0, 0.0).eval()
    given = torch.tensor([[1.0, 0.0]])
    make_targets(learner, peer, torch.zeros(4, 1, 1, 1), given, torch.ones(1), 0.5)
    assert learner.modes == [True] * 4  # two views of each side
    assert peer.modes == [False]


def test_trap_7_logits_of_two_networks_are_summed_class_heads_only() -> None:
    """The sum of logits says class 2; that of probabilities would say class 0."""
    one, two, images = Constant(5.0, 0.0, 0.0), Constant(-20.0, -1.0, 0.0), torch.zeros(1, 1, 1, 1)
    states = [
        dividemix.State(one, two, [], torch.zeros(0), {}),
        scanmix.State(one, two, Constant(9.0), Constant(9.0), [], torch.zeros(0), None),
        scanmix.State(one, two, None, None, [], torch.zeros(0), None),
    ]
    for method, state in zip((dividemix, scanmix, scanmix), states, strict=True):
        assert method.predict(state, images).tolist() == [[-15.0, -1.0, 0.0]]


def test_trap_8_scanmix_has_two_heads_scan_before_it_and_another_lambda_e() -> None:
    code = scanmix.Params()
    assert (code.form, code.entropy_weight, scanmix.ENTROPY_WEIGHTS) == (
        "code",
        None,
        {"code": 5, "printed": 2},
    )
    assert scan.Params().entropy_weight == 5.0
    assert scanmix.NEEDS.under({"form": "code"}).clusters
    assert not scanmix.NEEDS.under({"form": "printed"}).clusters
    assert code.epochs + warmup.Params().epochs == 301
    assert (code.clean_threshold, code.unlabeled_weight) == (0.5, 25.0)
    assert (code.low_noise_rate, code.high_noise_rate, code.noise_threshold) == (1e-5, 1e-3, 0.6)
    # an image without a neighbor predicted alike is its own partner
    task = task_of(4, neighbors=torch.tensor([[1], [2], [3], [0]]))
    near = scanmix.neighborhoods(task, itself=True)
    own = scanmix.draw_one(near, scanmix.e_step(near, torch.arange(4), task), stream(0, "draw"))
    assert own.tolist() == [[0], [1], [2], [3]]


def test_trap_8_a_head_without_a_gradient_is_left_alone() -> None:
    """In torch 1.5 weight decay and momentum moved it."""
    used, unused = nn.Linear(2, 2), nn.Linear(2, 2)
    before = unused.weight.detach().clone()
    optimizer = torch.optim.SGD([*used.parameters(), *unused.parameters()], 1.0, 0.9, weight_decay=0.1)
    for _ in range(2):
        task_of().step(used(torch.ones(1, 2)).sum(), optimizer)
    assert torch.equal(unused.weight, before)


def test_trap_11_smp_starts_in_an_epoch_that_the_paper_leaves_open() -> None:
    (start,) = [f for f in module_spec("noisyctl.methods.smp").fields if f.name == "start_epoch"]
    assert start.default == 5
    assert start.source.startswith("ours")


@pytest.mark.parametrize("name", BASELINES)
def test_trap_13_baselines_train_on_all_samples_unless_told_otherwise(name: str) -> None:
    assert methods.load(name).Params().validation_rate == 0.0


def test_trap_13_a_split_of_45_000_and_5_000_is_a_parameter() -> None:
    """The papers' tables mix numbers of such splits with those of all 50,000 samples."""
    cpu = torch.device("cpu")
    assert tasks.hold_out(50_000, 0.0, 0, cpu) is None
    held_out = tasks.hold_out(50_000, 0.1, 0, cpu)
    assert held_out is not None
    assert len(held_out.unique()) == 5_000
