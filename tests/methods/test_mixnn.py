"""MixNN's own functions: golden rows by hand, and both sides of its phase boundary."""

import torch

from noisyctl.methods import mixnn


def test_weights_are_the_shares_of_the_clean_probabilities() -> None:
    own, partners = mixnn.mixing_weights(torch.tensor([0.9, 0.5, 0.0]), torch.tensor([[0.1], [0.5], [1.0]]))
    # clean sample with a wrong neighbor: 0.9 / (0.9 + 0.1); equals: a half each; wrong sample: all to the neighbor
    torch.testing.assert_close(own, torch.tensor([0.9, 0.5, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(partners[:, 0], torch.tensor([0.1, 0.5, 1.0]), atol=1e-6, rtol=0)


def test_two_surely_wrong_samples_share_evenly() -> None:
    own, partners = mixnn.mixing_weights(torch.zeros(1), torch.zeros(1, 3))
    torch.testing.assert_close(own, torch.tensor([0.25]))
    torch.testing.assert_close(partners, torch.full((1, 3), 0.25))


def test_correction_starts_at_its_epoch_counted_with_warm_up(home, tmp_path) -> None:  # type: ignore[no-untyped-def]
    import pipeline

    from noisyctl.artifacts import store
    from noisyctl.artifacts.kinds import TRACE

    pipeline.train(
        home, "mixnn", tmp_path / "run"
    )  # one epoch of warm-up, correction_epoch 2: epochs 1, 2, 3 of all
    assert store.read(tmp_path / "run/trace.zarr", TRACE).array("scalar_correcting").tolist() == [
        0.0,
        1.0,
        1.0,
    ]
