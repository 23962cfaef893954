"""M-correction: an epoch of every phase against naive loops, both sides of each boundary, degenerate data."""

import math
from typing import Any

import pytest
import torch
from tiny_runs import CLASSES, SIZE, assert_moved, linear_network, make_task
from torch.nn.functional import cross_entropy

from noisyctl.methods import m_correction
from noisyctl.parts.beta_mixture import clean_probability
from noisyctl.parts.mixing import draw_beta
from noisyctl.seeds import stream

RATE = 0.1
MD = {"variant": "md-dyr-sh"}


def params_of(**values: Any) -> m_correction.Params:
    return m_correction.Params(**{"batch_size": SIZE, "weight_decay": 0.0, "learning_rate": RATE} | values)


def naive_loss(
    phase: str, twin: torch.nn.Module, x: torch.Tensor, clean: list[float], seed: str, temperature: float
) -> torch.Tensor:
    """Of one batch of all samples, from the text: loops over samples and classes."""
    rng = stream(0, seed)  # the draws in their order: samples, weight, partners
    samples = torch.randperm(SIZE, generator=rng).tolist()
    weight = float(draw_beta(32.0, (1,), rng))
    partners = [samples[j] for j in torch.randperm(SIZE, generator=rng).tolist()]
    assert samples != partners
    target = {}
    for i in range(SIZE):
        given = [float(i % CLASSES == c) for c in range(CLASSES)]
        logits = twin(x[i : i + 1])[0].tolist()
        if phase == "hard":
            guess = [float(v == max(logits)) for v in logits]
        elif phase == "soft":
            powers = [math.exp(v / temperature) for v in logits]
            guess = [v / sum(powers) for v in powers]
        else:
            guess = given
        target[i] = [clean[i] * y + (1 - clean[i]) * z for y, z in zip(given, guess, strict=True)]
    total, mean = torch.zeros((), dtype=torch.float64), torch.zeros(CLASSES, dtype=torch.float64)
    for i, j in zip(samples, partners, strict=True):
        image = weight if phase in ("mixup", "hard") else clean[i] / (clean[i] + clean[j])
        label = 0.5 if phase == "soft" else weight
        log_probs = twin((image * x[i] + (1 - image) * x[j])[None])[0].log_softmax(dim=0)
        mean = mean + log_probs.exp() / SIZE
        for c in range(CLASSES):
            total = total - (label * target[i][c] + (1 - label) * target[j][c]) * log_probs[c] / SIZE
    if phase in ("hard", "soft"):
        for c in range(CLASSES):
            total = total + 0.7 / CLASSES * torch.log(1 / CLASSES / mean[c])
    return total


@pytest.mark.parametrize(
    ("phase", "given", "temperature"),
    [
        ("mixup", {"correction_epoch": 2}, 0.0),
        ("hard", {"correction_epoch": 1}, 0.0),
        ("guided", MD | {"correction_epoch": 1, "guided_epochs": 1}, 1.0),
        (
            "soft",
            MD | {"correction_epoch": 0, "guided_epochs": 0, "temperature_epochs": 3},
            1 - 0.999 / 2,
        ),  # the second of three
    ],
)
def test_an_epoch_of_each_phase_equals_naive_loops(
    phase: str, given: dict[str, Any], temperature: float
) -> None:
    params, task = params_of(epochs=3, prior_weight=0.7, **given), make_task()
    network, twin = linear_network(1), linear_network(1).double()
    x = task.plain(torch.arange(SIZE)).double()
    losses = cross_entropy(twin(x), task.noisy_labels, reduction="none").detach()
    clean = clean_probability(losses).clamp(1e-4, 1 - 1e-4)
    assert clean.min() < 0.1 < 0.9 < clean.max()
    naive_loss(phase, twin, x, clean.tolist(), "epoch", temperature).backward()
    state = m_correction.start([network], task, params, stream(0, "start"))
    record = m_correction.run_epoch(state, task, params, 1, stream(0, "epoch"))
    assert_moved(network, twin, RATE)
    torch.testing.assert_close(record.vectors["losses"].double(), losses, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(record.vectors["clean_probability"].double(), clean, atol=1e-4, rtol=1e-3)
    assert record.scalars["temperature"] == pytest.approx(temperature)
    assert record.scalars["noisy_rate"] == pytest.approx(float(1 - clean.mean()), abs=1e-4)
    predicted = twin(x).argmax(dim=1)
    expected = [int(task.noisy_labels[i]) if clean[i] > 0.5 else int(predicted[i]) for i in range(SIZE)]
    assert record.vectors["pseudo_labels"].tolist() == expected


def test_both_sides_of_every_boundary() -> None:
    hard, soft = m_correction.Params(), m_correction.Params(**MD)
    # the paper's epochs 1 to 105 are mixup alone: 0 to 104 here
    assert [m_correction.phase_of(e, hard) for e in (0, 104, 105, 299)] == ["mixup", "mixup", "hard", "hard"]
    # 106 to 110 are guided, 111 is corrected
    phases = [m_correction.phase_of(e, soft) for e in (104, 105, 109, 110, 299)]
    assert phases == ["mixup", "guided", "guided", "soft", "soft"]
    # 89 steps of the code from 1 to .001, then that
    found = [m_correction.temperature_of(e, soft) for e in (0, 109, 110, 198, 199, 299)]
    assert found == pytest.approx([1.0, 1.0, 1.0, 0.001, 0.001, 0.001])
    # half way between 110 and 198: (1 + 0.001) / 2
    assert m_correction.temperature_of(154, soft) == pytest.approx(0.5005)
    assert m_correction.temperature_of(154, hard) == 0.0


def test_a_fall_of_one_epoch_is_at_its_end_at_once() -> None:
    one = m_correction.Params(**MD | {"temperature_epochs": 1})
    assert m_correction.temperature_of(110, one) == pytest.approx(0.001)


@pytest.mark.parametrize(("epoch", "rate"), [(94, 0.1), (95, 0.01), (244, 0.01), (245, 0.001)])
def test_the_learning_rate_falls_at_100_and_250_counted_with_warm_up(epoch: int, rate: float) -> None:
    task, params = make_task(warmup_epochs=5), params_of()
    state = m_correction.start([linear_network(1)], task, params, stream(0, "start"))
    record = m_correction.run_epoch(state, task, params, epoch, stream(0, "epoch"))
    assert record.scalars["learning_rate"] == pytest.approx(rate)
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_two_samples_share_an_image_by_their_probability_of_being_clean() -> None:
    clean, order = torch.tensor([0.9, 0.3, 0.0001]), torch.tensor([1, 2, 2])
    # three to one; 3000 to 1; with itself: a half
    expected = torch.tensor([0.75, 0.3 / 0.3001, 0.5])
    torch.testing.assert_close(m_correction.guided_weight(clean, order), expected)


def test_a_guess_is_a_class_or_a_softmax_that_sharpens() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[0.0], [math.log(3)]]))
    images = torch.ones(1, 1, 1, 1)
    found = {t: m_correction.guessed(network, images, t) for t in (0.0, 1.0, 0.5)}
    assert found[0.0].tolist() == [[0.0, 1.0]]
    torch.testing.assert_close(found[1.0], torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(found[0.5], torch.tensor([[0.1, 0.9]]))  # 1 to 3^2
    assert not found[1.0].requires_grad


@pytest.mark.parametrize("variant", ["m-dyr-h", "md-dyr-sh"])
@pytest.mark.parametrize("labels", ["equal losses", "one sample", "one class"])
def test_nothing_stops_it(variant: str, labels: str) -> None:
    size = 1 if labels == "one sample" else SIZE
    task = make_task(size, labels=torch.zeros(size, dtype=torch.long))
    params = params_of(variant=variant, correction_epoch=0, guided_epochs=0, epochs=2)
    network = linear_network(1, scale=0.0 if labels == "equal losses" else 0.3)
    state = m_correction.start([network], task, params, stream(0, "start"))
    for epoch in range(2):
        record = m_correction.run_epoch(state, task, params, epoch, stream(0, "epoch", epoch))
        task.monitor.check(epoch)
    assert all(torch.isfinite(p).all() for p in network.parameters())
    assert torch.isfinite(record.vectors["clean_probability"]).all()


def test_held_out_samples_take_no_part() -> None:
    out = torch.tensor([0, 5])
    task = make_task(held_out=out)
    other = make_task(
        held_out=out, labels=torch.where(torch.isin(torch.arange(SIZE), out), 1, task.noisy_labels)
    )
    weights = []
    for each in (task, other):
        network, params = linear_network(1), params_of(correction_epoch=0)
        state = m_correction.start([network], each, params, stream(0, "start"))
        record = m_correction.run_epoch(state, each, params, 0, stream(0, "epoch"))
        weights.append(torch.cat([p.ravel() for p in network.parameters()]))
        assert record.vectors["clean_probability"][out].tolist() == [0.0, 0.0]
    assert torch.equal(*weights)
