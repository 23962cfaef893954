"""Every method on data that leave it nothing to choose between: it goes on, all that it leaves is finite."""

import pytest
import tiny
import torch
from tiny import CLASSES, TRUTH
from torch import Tensor, nn

from noisyctl import methods
from noisyctl.task import Task

STARVED = 3  # the class without samples, or without selected ones
# the others that trace `selected` take a share of each batch, whatever its losses
BY_THRESHOLD = ("dividemix", "jo_src", "scanmix", "two_stage")


def shift_bias(networks: list[nn.Module], amount: float) -> None:
    """No network predicts the starved class: the losses of its labels are large, and nothing selects them."""
    with torch.no_grad():
        for network in networks:
            network.get_submodule("head.0").bias[STARVED] += amount


def equal_logits(networks: list[nn.Module]) -> None:
    """Every loss of every sample is log C: the mixture has one mode of no width."""
    for network in networks:
        nn.init.zeros_(network.get_submodule("head.0").weight)
        nn.init.zeros_(network.get_submodule("head.0").bias)


LABELS = {
    "all clean": TRUTH,
    "all wrong": (TRUTH + 1) % CLASSES,
    "a class without a sample": TRUTH % STARVED,
    "a class that nothing selects": TRUTH,
    "one mode": TRUTH,
    "one class alone": torch.zeros_like(TRUTH),
    "two samples in a class": torch.tensor([0] * 9 + [1] * 9 + [2] * 2 + [3] * 2 + [0, 1]),
    "a last batch of one": torch.arange(2 * tiny.BATCH + 1) % CLASSES,
}


def finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values.float()).all())


@pytest.mark.parametrize("case", LABELS)
@pytest.mark.parametrize("name", methods.available())
def test_it_goes_on(name: str, case: str) -> None:
    method, labels = methods.load(name), LABELS[case]
    held_out = torch.tensor([5, 10]) if method.Params().validation_rate else None
    task: Task = tiny.task_of(labels, held_out=held_out)
    networks = tiny.networks_of(method)
    if case == "a class that nothing selects":
        shift_bias(networks, -30.0)
    elif case == "one mode":
        equal_logits(networks)
    state, records = tiny.train(name, task, networks=networks)
    for record in records:
        assert all(torch.isfinite(torch.tensor(value)) for value in record.scalars.values())
        assert all(finite(vector) for vector in record.vectors.values())
    if case == "a class that nothing selects" and name in BY_THRESHOLD:
        assert not records[-1].vectors["selected"][..., labels == STARVED].any()
    if networks:
        assert finite(tiny.weights(state))
        assert finite(method.predict(state, task.plain(torch.arange(2))))


@pytest.mark.parametrize("case", LABELS)
@pytest.mark.parametrize("name", ["dividemix", "mixnn"])
def test_an_epoch_of_two_samples_goes_on(name: str, case: str) -> None:
    params = tiny.params_of(name, epoch_batches=1, batch_size=2)
    state, records = tiny.train(name, tiny.task_of(LABELS[case]), params)
    assert finite(tiny.weights(state))
    assert all(finite(vector) for record in records for vector in record.vectors.values())
