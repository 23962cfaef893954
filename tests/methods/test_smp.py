"""SMP: golden rows by hand, Algorithm 1 against a naive float64 oracle, phase boundaries, METHODS' traps."""

import math

import pytest
import torch
from torch import Generator, Tensor, nn

from noisyctl.errors import ParamsError
from noisyctl.methods import smp
from noisyctl.seeds import stream
from noisyctl.task import EpochRecord, Task
from noisyctl.training import checkpoint


class PixelViews:
    def plain(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).float() / 255

    def weak(self, images: Tensor, rng: Generator) -> Tensor:
        plain = self.plain(images)
        return plain + 0.01 * torch.randn(plain.shape, generator=rng)

    simclr = moco = strong = weak


class PixelNetwork(nn.Module):
    """Features are the pixels, so that similarities can be told by eye; the head learns."""

    def __init__(self, classes: int, weight: float = 1.0) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False))
        self.features[1].weight.data = weight * torch.eye(4)
        self.head = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, classes))
        nn.init.zeros_(self.head[1].weight)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def make_task(classes: int = 3, size: int = 12, **known: object) -> Task:
    """Classes of bright pixels of their own; the first sample of each has the label of the next."""
    truth = torch.arange(classes).repeat_interleave(size)
    images = torch.randint(0, 60, (len(truth), 4), generator=stream(0, "images"))
    images[torch.arange(len(truth)), truth] += 190
    labels = truth.clone()
    labels[::size] = (labels[::size] + 1) % classes
    return Task(
        images.to(torch.uint8).view(-1, 2, 2, 1), PixelViews(), classes, torch.device("cpu"), labels, **known
    )


def truth_of(task: Task, size: int = 12) -> Tensor:
    return torch.arange(task.num_classes).repeat_interleave(size)


def started(task: Task, params: smp.Params, weight: float = 1.0) -> smp.State:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return smp.start([PixelNetwork(task.num_classes, weight)], task, params, stream(0, "start"))


def run(task: Task, params: smp.Params, epoch: int, state: smp.State) -> EpochRecord:
    return smp.run_epoch(state, task, params, epoch, stream(0, "epoch", epoch))


# Loss


def test_golden_joint_cross_entropy() -> None:
    logits = torch.tensor([[0.6, 0.3, 0.1]] * 2).log()
    found = smp.joint_cross_entropy(logits, torch.tensor([0, 0]), torch.tensor([1, 0]), 0.25)
    # three quarters on the given label, one on the corrected; the label itself where both are one
    expected = torch.tensor([-0.75 * math.log(0.6) - 0.25 * math.log(0.3), -math.log(0.6)])
    torch.testing.assert_close(found, expected)


def test_the_loss_has_the_right_gradient_and_is_finite_where_the_network_is_sure() -> None:
    given, corrected = torch.tensor([0, 1]), torch.tensor([2, 1])
    logits = torch.randn(2, 3, dtype=torch.float64, generator=stream(0, "z"), requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: smp.joint_cross_entropy(z, given, corrected, 0.5), logits)
    sure = (200 * torch.eye(3)[:2]).requires_grad_()
    smp.joint_cross_entropy(sure, given, corrected, 0.5).sum().backward()
    assert sure.grad is not None and torch.isfinite(sure.grad).all()


# Label correction


def test_wrong_labels_in_a_lump_are_corrected() -> None:
    task = make_task()
    params = smp.Params()
    classes, directions = smp.class_directions(started(task, params).network, task, params, stream(0, "rng"))
    found = smp.corrected_labels(started(task, params).network, task, classes, directions)
    assert torch.equal(found, truth_of(task))
    assert not torch.equal(found, task.noisy_labels)


@pytest.mark.parametrize("p", [1, 3, 8])
@pytest.mark.parametrize("rank", ["40th", "60th"])
def test_correction_equals_the_oracle(rank: str, p: int) -> None:
    """Algorithm 1, lines 7 to 10, over all samples of a class, sample by sample in float64."""
    task = make_task()
    params = smp.Params(density_rank=rank, num_prototypes=p, closeness_limit=0.98)
    features = task.images.view(-1, 4).double()

    def cos(i: int, j: int) -> float:
        return float(features[i] @ features[j] / (features[i].norm() * features[j].norm()))

    chosen, rng = [], stream(0, "rng")
    for c in range(3):
        members = [i for i in range(36) if task.noisy_labels[i] == c]
        m = len(members)
        members = [members[j] for j in torch.randperm(m, generator=rng)]  # equals keep the order of the draw
        values = sorted(cos(i, j) for i in members for j in members)
        s_c = values[m * m * (40 if rank == "40th" else 60) // 100]
        # an element of S is equal to itself, though cos(i, j) and cos(j, i) may round apart
        sign = lambda x: 0 if abs(x) < 1e-12 else math.copysign(1, x)  # noqa: E731
        rho = {i: sum(sign(cos(i, j) - s_c) for j in members) for i in members}
        best = max(rho.values())
        eta = {
            i: max(cos(i, j) for j in members if rho[j] > rho[i])
            if rho[i] < best
            else min(cos(i, j) for j in members)
            for i in members
        }
        places = {i: (eta[i] >= 0.98, -rho[i]) for i in members}  # apart first, each by density
        chosen.append(sorted(members, key=lambda i: places[i])[:p])
    sigma = [[sum(cos(x, z) for z in zs) / len(zs) for zs in chosen] for x in range(36)]
    expected = torch.tensor(sigma)
    network = started(task, params).network
    classes, directions = smp.class_directions(network, task, params, stream(0, "rng"))
    found = smp.prototypes.class_similarity(smp.features(network, task, torch.arange(36)), directions)
    torch.testing.assert_close(found, expected)
    assert torch.equal(smp.corrected_labels(network, task, classes, directions), expected.argmax(dim=1))


def test_at_most_m_samples_of_a_class_are_looked_at() -> None:
    task = make_task()
    params = smp.Params(samples_per_class=5)
    state, sizes = started(task, params), []
    state.network.get_submodule("features").register_forward_hook(lambda m, x, y: sizes.append(len(y)))
    smp.class_directions(state.network, task, params, stream(0, "rng"))
    assert sizes == [5, 5, 5]
    sizes.clear()
    smp.class_directions(state.network, task, smp.Params(), stream(0, "rng"))
    assert sizes == [12, 12, 12]  # all of a class that has fewer than 1280


def test_features_are_of_plain_views_in_eval_mode_and_the_mode_is_kept() -> None:
    task = make_task()
    network = PixelNetwork(3).train()
    found = smp.features(network, task, torch.arange(4))
    torch.testing.assert_close(found, task.plain(torch.arange(4)).flatten(1))
    assert network.training


# Phases


@pytest.mark.parametrize(
    ("warmup_epochs", "start_epoch", "first"), [(0, 3, 2), (1, 3, 1), (5, 3, 0), (0, 1, 0)]
)
def test_trap_smp_start_epoch_counts_from_one_with_warm_up(
    warmup_epochs: int, start_epoch: int, first: int
) -> None:
    task = make_task(warmup_epochs=warmup_epochs)
    params = smp.Params(start_epoch=start_epoch)
    state = started(task, params)
    for epoch in range(4):
        record = run(task, params, epoch, state)
        assert record.scalars["correction_weight"] == (0.5 if epoch >= first else 0.0)
        # those that the network has given when the epoch ends, for the next one
        wanted = truth_of(task) if epoch >= first - 1 else task.noisy_labels
        assert torch.equal(record.vectors["pseudo_labels"], wanted)


def test_an_epoch_leaves_the_labels_and_prototypes_of_the_network_as_it_left_it() -> None:
    """SMP Table 2: "generated by the final model when training ends"; the last epoch learned from those before."""
    task = make_task()
    params = smp.Params(
        start_epoch=1, epochs=2, learning_rate=0.5, num_prototypes=14
    )  # all: whatever the draw
    state, learned = started(task, params), []
    for epoch in range(2):
        learned.append(state.corrected)
        record = run(task, params, epoch, state)
        classes, directions = smp.class_directions(state.network, task, params, stream(0, "any"))
        torch.testing.assert_close(state.directions, directions)
        again = smp.corrected_labels(state.network, task, classes, directions)
        assert torch.equal(record.vectors["pseudo_labels"], again)
    assert torch.equal(learned[0], truth_of(task))


def test_the_prototypes_are_a_classifier_of_their_own_from_the_first_correction_on() -> None:
    """SMP Table 3, "Initial": what the prototypes say of images that were never trained on."""
    task, params = make_task(), smp.Params(start_epoch=3)
    state = started(task, params)
    images = task.plain(torch.arange(36))
    run(task, params, 0, state)
    assert smp.predict_further(state, images)["prototypes"].isnan().all()
    run(task, params, 1, state)
    state.network.eval()
    with torch.no_grad():
        found = smp.predict_further(state, images)["prototypes"]
    # the mean cosine with each class's prototypes, and not the head, which has learned the wrong labels
    expected = smp.prototypes.class_similarity(
        smp.features(state.network, task, torch.arange(36)), state.directions
    )
    torch.testing.assert_close(found, expected)
    assert torch.equal(found.argmax(dim=1), truth_of(task))


def test_a_class_without_prototypes_is_never_predicted_by_them() -> None:
    task = make_task()
    task = Task(task.images, task.views, 4, task.device, task.noisy_labels.clamp(max=1))
    state = started(task, smp.Params(start_epoch=1))
    with torch.no_grad():
        found = smp.predict_further(state, task.plain(torch.arange(36)))["prototypes"]
    assert found.isfinite().all() and found.shape == (36, 4)
    assert set(found.argmax(dim=1).tolist()) <= {0, 1}


def test_before_the_start_it_is_cross_entropy_whatever_the_weight() -> None:
    task, networks = make_task(), []
    for weight in (0.0, 1.0):
        params = smp.Params(correction_weight=weight)
        state = started(task, params)
        run(task, params, 0, state)
        networks.append(state.network.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(networks[0].values(), networks[1].values(), strict=True))


def test_the_rate_falls_to_a_tenth_every_five_epochs() -> None:
    task, params = make_task(), smp.Params()
    state = started(task, params)
    found = [run(task, params, epoch, state).scalars["learning_rate"] for epoch in (0, 4, 5, 9, 10, 14)]
    assert found == pytest.approx([2e-3, 2e-3, 2e-4, 2e-4, 2e-5, 2e-5])


@pytest.mark.parametrize("selection", ["densest_apart", "density_peaks", "kmeans"])
def test_every_way_to_choose_corrects_labels_and_draws_from_its_generator_alone(selection: str) -> None:
    task, params = make_task(), smp.Params(selection=selection, start_epoch=1)
    weights = []
    for poison in (1, 2):
        state = started(task, params)
        torch.manual_seed(poison)
        record = run(task, params, 0, state)
        assert torch.equal(record.vectors["pseudo_labels"], truth_of(task))
        weights.append(torch.cat([p.ravel() for p in state.network.parameters()]))
    assert torch.equal(*weights)


# Verified labels


def test_golden_candidates_for_prototypes() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    verified = (torch.tensor([0, 2, 3]), torch.tensor([0, 0, 1]))
    task = Task(None, None, 3, torch.device("cpu"), labels, verified=verified)
    # 0 verified as 0; 1 only given: out; 2 verified as 0 against its label; 3 verified; no sample is verified as 2: as given
    assert smp.prototype_candidates(task, smp.Params()).tolist() == [0, -1, 0, 1, 2, 2]
    # in the third setting prototypes come from the noisy labels
    finetune = smp.Params(verified_role="finetune")
    assert smp.prototype_candidates(task, finetune).tolist() == labels.tolist()
    # without verified labels, as given; samples held out for validation never
    held_out = Task(
        None, None, 3, torch.device("cpu"), labels, held_out=torch.tensor([1, 5]), verified=verified
    )
    assert smp.prototype_candidates(held_out, smp.Params()).tolist() == [0, -1, 0, 1, 2, -1]
    alone = Task(None, None, 3, torch.device("cpu"), labels)
    assert smp.prototype_candidates(alone, smp.Params()).tolist() == labels.tolist()


def test_verified_prototypes_correct_where_most_labels_are_wrong() -> None:
    task = make_task()
    wrong = (truth_of(task) + 1) % 3
    wrong[::4] = truth_of(task)[::4]
    checked = torch.arange(36)[::6]
    known = {"labels": wrong, "verified": (checked, truth_of(task)[checked])}
    helped = Task(task.images, task.views, 3, task.device, **known)
    alone = Task(task.images, task.views, 3, task.device, labels=wrong)
    params = smp.Params(start_epoch=1)
    found = [run(t, params, 0, started(t, params)).vectors["pseudo_labels"] for t in (helped, alone)]
    assert torch.equal(found[0], truth_of(task))
    assert not torch.equal(found[1], truth_of(task))


def test_verified_labels_of_the_second_setting_are_not_trained_on() -> None:
    checked = torch.arange(36)
    task, helped = make_task(), make_task(verified=(checked, truth_of(make_task())))
    params = smp.Params(start_epoch=2)
    first, second = (started(t, params) for t in (task, helped))
    records = [run(t, params, 0, s) for t, s in ((task, first), (helped, second))]
    assert torch.equal(records[0].vectors["losses"], records[1].vectors["losses"])


def test_finetuning_learns_the_verified_samples_alone_in_the_last_epochs() -> None:
    checked = torch.tensor([0, 3, 12, 24, 30])
    task = make_task(verified=(checked, truth_of(make_task())[checked]))
    params = smp.Params(epochs=4, finetune_epochs=2, verified_role="finetune", start_epoch=2, batch_size=4)
    state = started(task, params)
    records = [run(task, params, epoch, state) for epoch in range(2)]
    before = {name: values.clone() for name, values in records[1].vectors.items()}
    assert records[1].scalars == {"learning_rate": 2e-3, "correction_weight": 0.5}
    record = run(task, params, 2, state)
    assert record.scalars == {"learning_rate": 2e-4, "correction_weight": 0.0}
    others = torch.ones(36, dtype=torch.bool)
    others[checked] = False
    for name, values in record.vectors.items():  # the others keep what was last said of them
        assert torch.equal(values[others], before[name][others])
    assert torch.equal(record.vectors["pseudo_labels"][checked], truth_of(task)[checked])
    assert not torch.equal(record.vectors["losses"][checked], before["losses"][checked])


def test_a_checkpoint_before_finetuning_gives_the_same_end() -> None:
    checked = torch.tensor([0, 12, 24])
    task = make_task(verified=(checked, truth_of(make_task())[checked]))
    params = smp.Params(epochs=3, finetune_epochs=1, verified_role="finetune", start_epoch=1)
    state = started(task, params)
    for epoch in range(2):
        run(task, params, epoch, state)
    resumed = started(task, params)
    checkpoint.unpack(resumed, *checkpoint.pack(state))
    whole, again = (run(task, params, 2, s) for s in (state, resumed))
    assert whole.vectors.keys() == again.vectors.keys()
    assert all(torch.equal(whole.vectors[name], again.vectors[name]) for name in whole.vectors)


@pytest.mark.parametrize("verified", [None, ([3], [0])])
def test_finetuning_without_two_verified_samples_is_refused(
    verified: tuple[list[int], list[int]] | None,
) -> None:
    known = None if verified is None else tuple(torch.tensor(part) for part in verified)
    task = make_task(verified=known, held_out=torch.tensor([4]))
    with pytest.raises(
        ParamsError, match="needs at least two verified training samples; give them with --verified"
    ):
        smp.start([PixelNetwork(3)], task, smp.Params(verified_role="finetune"), stream(0, "start"))


# Degenerate data


@pytest.mark.parametrize(
    "labels",
    [
        truth_of(make_task()),  # all clean
        (truth_of(make_task()) + 1) % 3,  # all wrong
        torch.zeros(36, dtype=torch.long),  # two classes without a sample
        torch.tensor([0] * 33 + [1] * 2 + [2]),  # two samples of a class, and one
    ],
    ids=["clean", "wrong", "one class", "two and one"],
)
@pytest.mark.parametrize("selection", ["densest_apart", "density_peaks", "kmeans"])
def test_degenerate_labels_go_on(labels: Tensor, selection: str) -> None:
    task = make_task()
    task = Task(task.images, task.views, 3, task.device, labels)
    params = smp.Params(start_epoch=1, selection=selection)
    state = started(task, params)
    for epoch in range(2):
        record = run(task, params, epoch, state)
    assert torch.isfinite(record.vectors["losses"]).all()
    assert set(record.vectors["pseudo_labels"].tolist()) <= set(labels.tolist())
    if torch.equal(labels, truth_of(task)):
        assert torch.equal(record.vectors["pseudo_labels"], labels)


@pytest.mark.parametrize("selection", ["densest_apart", "density_peaks", "kmeans"])
def test_constant_features_go_on(selection: str) -> None:
    """A collapsed network: no direction tells classes apart, the first one is taken."""
    task, params = make_task(), smp.Params(start_epoch=1, selection=selection)
    record = run(task, params, 0, started(task, params, weight=0.0))
    assert torch.isfinite(record.vectors["losses"]).all()
    assert record.vectors["pseudo_labels"].tolist() == [0] * 36


def test_a_last_batch_of_one_goes_on() -> None:
    record = run(make_task(), smp.Params(batch_size=35, start_epoch=1), 0, started(make_task(), smp.Params()))
    assert (record.vectors["losses"] > 0).all()


def test_held_out_samples_neither_train_nor_are_prototypes() -> None:
    task = make_task(held_out=torch.tensor([1, 20]))
    params = smp.Params(start_epoch=1)
    record = run(task, params, 0, started(task, params))
    assert record.vectors["losses"][[1, 20]].tolist() == [0, 0]
    assert (record.vectors["losses"][task.train_index] > 0).all()


def test_without_corrections_it_is_cross_entropy_that_is_then_finetuned() -> None:
    """SMP Table 1, row 10: no label is ever corrected before the checked ones are learned."""
    checked = torch.tensor([0, 12, 24])
    task = make_task(verified=(checked, truth_of(make_task())[checked]))
    values = {"epochs": 3, "finetune_epochs": 1, "verified_role": "finetune"}
    params = smp.Params(**values, start_epoch=1000, correction_weight=0.0)
    state = started(task, params)
    for epoch in range(2):
        record = run(task, params, epoch, state)
        assert torch.equal(record.vectors["pseudo_labels"], task.noisy_labels)
        assert record.scalars["correction_weight"] == 0.0
    assert run(task, params, 2, state).scalars["learning_rate"] == params.finetune_rate
