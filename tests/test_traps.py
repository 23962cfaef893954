"""Where papers and their codes differ and a reader falls in: one test a trap, each asserting the fact itself."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from noisyctl import methods
from noisyctl.methods import (
    co_teaching_plus,
    dividemix,
    jo_src,
    mixnn_official,
    scanmix,
    smp,
    two_stage,
)
from noisyctl.nn.networks import build
from noisyctl.noise import asymmetric, pairflip, symmetric
from noisyctl.papers import printed
from noisyctl.parts import prototypes
from noisyctl.parts.losses import squared_error
from noisyctl.parts.mixing import mixmatch_weight
from noisyctl.parts.mixmatch import make_targets
from noisyctl.parts.small_loss import mean_of
from noisyctl.parts.targets import smooth_one_hot
from noisyctl.pretraining import scan
from noisyctl.seeds import stream
from noisyctl.task import Task
from noisyctl.training import warmup

CLEAN = np.arange(50000) % 10
BASELINES = ("co_teaching", "decoupling", "elr", "forward", "gce", "jocor", "mixup", "nce_rce", "sce")


class PlainViews:
    """Pixels as they are, whatever the view."""

    def plain(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).float() / 255

    def weak(self, images: Tensor, rng: Generator) -> Tensor:
        return self.plain(images)

    simclr = moco = strong = weak


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


def network_of(seed: int = 0) -> nn.Module:
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5)))
    network.add_module("head", nn.Linear(5, 3))
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=stream(seed, "weights")))
    return network


def source(method: Any, field: str) -> str:
    return method.Params.model_fields[field].json_schema_extra["source"]


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


def test_trap_4_lambda_u_is_0_at_20_percent_and_asym_and_lu_divides_by_the_classes() -> None:
    paper = printed.load("scanmix")
    rows = {n.cell(0): paper.row(n).params for n in paper.of_tables(["1"]) if n.row == "dividemix"}
    weights = {cell: params.get("unlabeled_weight", 25.0) for cell, params in rows.items()}
    cifar10 = "cifar10-dividemix-{}-s0"
    assert [weights[cifar10.format(n)] for n in ("sym-incl-20", "asym10-40")] == [0, 0]
    assert [weights[cifar10.format(n)] for n in ("sym-incl-50", "sym-incl-90")] == [25, 50]
    assert weights["cifar100-dividemix-sym-incl-80-s0"] == 150
    # uniform over four classes against one of them: (9 + 1 + 1 + 1) / 16, a quarter of it
    found = squared_error(torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert found.item() == pytest.approx(12 / 16 / 4)


@pytest.mark.parametrize("name", ["dividemix", "scanmix", "mixnn_official"])
def test_trap_5_losses_are_averaged_by_a_parameter_and_no_method_knows_the_rate(name: str) -> None:
    assert methods.load(name).Params().averaged_losses == 1
    assert not {"rate", "noise_rate", "truth", "clean_labels"} & set(vars(task_of()))


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


def test_trap_8_its_resnet_is_post_activation_with_other_parameters_than_dividemix_s() -> None:
    """Counted on the official classes: 11,173,962 and 11,171,274 for ten classes."""
    spec = {"channels": 3, "size": [32, 32], "num_outputs": 10, "head": "linear"}
    count = {
        name: sum(p.numel() for p in build(spec | {"backbone": name}, stream(0, "init")).parameters())
        for name in ("resnet18", "preact_resnet18")
    }
    assert count == {"resnet18": 11_173_962, "preact_resnet18": 11_171_274}


def test_trap_8_a_head_without_a_gradient_is_left_alone() -> None:
    """In torch 1.5 weight decay and momentum moved it."""
    used, unused = nn.Linear(2, 2), nn.Linear(2, 2)
    before = unused.weight.detach().clone()
    optimizer = torch.optim.SGD([*used.parameters(), *unused.parameters()], 1.0, 0.9, weight_decay=0.1)
    for _ in range(2):
        task_of().step(used(torch.ones(1, 2)).sum(), optimizer)
    assert torch.equal(unused.weight, before)


def test_trap_9_jo_src_a_sure_and_right_prediction_is_not_clean() -> None:
    """Smoothing of .6 inside a divergence in bits: one-hot on the given label of 100 classes scores .604."""
    given = smooth_one_hot(torch.tensor([3]), 100, 0.6)
    assert given[0, 3].item() == pytest.approx(0.4) and given[0, 0].item() == pytest.approx(0.6 / 99)
    sure = 200.0 * one_hot(torch.tensor([3]), 100).float()
    assert jo_src.clean_probability(sure, given).item() == pytest.approx(0.604, abs=5e-4)


def test_trap_9_jo_src_threshold_is_off_by_one_and_the_divergence_of_ood_is_negative() -> None:
    thresholds = {}
    for counting, (first, _) in jo_src.COUNTINGS.items():
        params = jo_src.Params(counting=counting)
        thresholds[counting] = [jo_src.clean_threshold(first + epoch, params) for epoch in (0, 199)]
    assert thresholds["paper"] == pytest.approx([0.075, 0.95])
    assert thresholds["code"] == pytest.approx([0.0, 0.75 + 0.2 * 189 / 190])
    one, other = torch.tensor([[2.0, 0.0]] * 2), torch.tensor([[0.0, 2.0]] * 2)
    kinds = torch.tensor([jo_src.ID, jo_src.OOD], dtype=torch.uint8)
    pulled, pushed = jo_src.consistency(kinds, one, other).tolist()
    assert pulled > 0 and pushed == -pulled


def test_trap_9_jo_src_mlp_head_beta1_and_the_network_that_is_judged() -> None:
    spec = {
        "backbone": "small_cnn",
        "width": 2,
        "channels": 1,
        "size": [8, 8],
        "num_outputs": 3,
        "head": "mlp",
    }
    layers = [
        type(layer).__name__ for layer in build(spec, stream(0, "init")).get_submodule("head").children()
    ]
    assert layers == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    for beta, expected in ((0.9, 0.9), (0.1, 0.1)):  # the paper's; the code's
        jo_src.set_rate(optimizer, jo_src.Params(late_beta1=beta), 80)
        assert optimizer.param_groups[0]["betas"][0] == expected
    state = jo_src.State(Constant(1.0, 2.0), Constant(5.0, 5.0), optimizer)
    assert jo_src.predict(state, torch.zeros(1, 1)).tolist() == [[1.0, 2.0]]


def test_trap_10_mixnn_s_code_has_a_linear_loss_and_random_partners_up_to_epoch_60() -> None:
    params = mixnn_official.Params()
    phases = {epoch: tuple(mixnn_official.phase(epoch, params)) for epoch in (59, 60, 61, 70)}
    assert phases == {
        59: ("random", "linear", False),
        60: ("random", "soft", True),
        61: ("nearest", "soft", False),
        70: ("nearest", "soft", True),  # targets move in every tenth epoch
    }
    quarter = mixnn_official.linear_loss(torch.tensor([[1.0, 3.0]]).log(), torch.tensor([[1.0, 0.0]]))
    assert quarter.item() == pytest.approx(-0.25)  # of probabilities, where cross-entropy gives log 4
    rows = torch.tensor([[0.0], [1.0], [3.0]])
    assert mixnn_official.nearest_in_batch(rows).tolist() == [1, 0, 1]


def test_trap_10_mixnn_s_code_fits_the_mixture_on_corrected_labels() -> None:
    task, network, params = task_of(), network_of(), mixnn_official.Params(batch_size=12)
    corrected = (task.noisy_labels + 1) % 3
    expected = cross_entropy(network.eval()(task.plain(torch.arange(12))), corrected, reduction="none")
    state = mixnn_official.start([network], task, params, stream(0, "start"))
    state.targets = one_hot(corrected, 3).float()
    record = mixnn_official.run_epoch(state, task, params, 0, stream(0, "epoch"))
    torch.testing.assert_close(record.vectors["losses"], expected.detach())


def test_trap_11_smp_percentile_start_epoch_and_fewer_than_p() -> None:
    ascending = torch.arange(100.0)
    assert [prototypes.ranked(ascending, percent).item() for percent in (40, 60)] == [40, 60]
    assert smp.Params(density_rank="60th").start_epoch == smp.Params(density_rank="40th").start_epoch == 5
    assert source(smp, "start_epoch").startswith("ours")
    twins = torch.ones(5, 2)  # all close to each other: none but the densest is apart
    assert len(prototypes.densest_apart(twins, 3, percent=40, limit=0.95)) == 3


def test_trap_11_two_stage_states_what_the_paper_leaves_open() -> None:
    for name in ("consistency_weight", "input_noise", "dropout", "keep_base", "keep_rounding", "batch_size"):
        assert source(two_stage, name).startswith("ours"), name


def test_trap_12_no_double_softmax_and_one_division_in_co_teaching_plus() -> None:
    """From the epoch of disagreement on, too."""
    task = task_of(warmup_epochs=1)
    params = co_teaching_plus.Params(disagreement_epoch=0, assumed_noise_rate=0.4, batch_size=12)
    networks = [network_of(0), network_of(1)]
    expected = cross_entropy(
        networks[0].train()(task.plain(torch.arange(12))), task.noisy_labels, reduction="none"
    )
    state = co_teaching_plus.start(networks, task, params, stream(0, "start"))
    record = co_teaching_plus.run_epoch(state, task, params, 0, stream(0, "epoch"))
    torch.testing.assert_close(record.vectors["losses"][0], expected.detach(), atol=1e-5, rtol=1e-5)
    assert expected.max() > math.log(3) + 1  # the cross-entropy of a softmax of a softmax lies below
    chosen = torch.tensor([True, True, False])
    assert mean_of(torch.tensor([1.0, 2.0, 9.0]), chosen).item() == 1.5


@pytest.mark.parametrize("name", BASELINES)
def test_trap_13_baselines_train_on_all_samples_unless_told_a_45k_5k_split(name: str) -> None:
    """The papers' tables mix numbers of 45k/5k splits with those of 50k; here the split is a parameter of each."""
    assert methods.load(name).Params().validation_rate == 0.0
    assert methods.load(name).Params(validation_rate=0.1).validation_rate == 0.1
