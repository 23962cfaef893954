"""Testing after some epochs only: the same trained bytes, -1 in the epochs between, and what evaluate makes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from noisyctl import methods
from noisyctl.evaluation import judging, measures
from noisyctl.training import checkpoint
from noisyctl.training.loop import fit
from noisyctl.training.scratch import Scratch

NAME, EPOCHS = "co_teaching", 5
TESTED = {1: [0, 1, 2, 3, 4], 2: [1, 3, 4], 5: [4], 0: [4], 9: [4]}


def run(folder: Path, every: int, stop_after: int | None = None) -> Any:
    """A run from the same networks, or one that is killed after some epochs."""
    folder.mkdir(exist_ok=True)
    method, task = methods.load(NAME), tiny.task_of()

    def report(epoch: int, *rest: Any) -> None:
        if epoch + 1 == stop_after:
            raise KeyboardInterrupt

    return fit(
        method,
        tiny.networks_of(method),
        task,
        tiny.params_of(NAME, epochs=EPOCHS),
        name=NAME,
        epochs=EPOCHS,
        seed=0,
        scratch=Scratch(folder, "mark"),
        held_out={"test": task.images[:20]},
        report=report,
        test_every=every,
    )


@pytest.mark.parametrize("every", TESTED)
def test_only_the_test_predictions_of_the_epochs_between_are_missing(every: int, tmp_path: Path) -> None:
    whole, some = run(tmp_path / "whole", 1), run(tmp_path / "some", every)
    ours, theirs = (checkpoint.pack(fitted.state)[0] for fitted in (some, whole))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert list(some.arrays) == list(whole.arrays)
    of_test = {name for name in whole.arrays if name.startswith("test_predictions")}
    assert of_test == {"test_predictions", "test_predictions_of_network2"}
    for name, values in whole.arrays.items():
        expected = values
        if name in of_test:
            expected = np.full_like(values, -1)
            expected[TESTED[every]] = values[TESTED[every]]
        np.testing.assert_array_equal(some.arrays[name], expected, err_msg=name)


@pytest.mark.parametrize("every", [0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(every: int, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", every)
    for stop in (1, 4):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / str(stop), every, stop_after=stop)
        resumed = run(tmp_path / str(stop), every)
        for name, values in whole.arrays.items():
            np.testing.assert_array_equal(resumed.arrays[name], values, err_msg=name)


class Trace(dict[str, np.ndarray]):
    path, names = Path("trace.zarr"), property(lambda self: list(self))

    def array(self, name: str) -> np.ndarray:
        return self[name]


def test_what_was_not_tested_has_no_number() -> None:
    """Epochs 1 and 3 of four are tested: 50 % and 25 %. The best is of these; a mean over all of them is not known."""
    labels, none = np.array([0, 1, 2, 3]), [-1] * 4
    predictions = np.array([none, [0, 1, 0, 0], none, [0, 0, 0, 0]])
    curve = measures.accuracies(predictions, labels)
    assert curve.tolist()[1::2] == [50, 25] and np.isnan(curve[::2]).all()
    found = measures.selection_rules(curve, {"best_on_noisy_validation": np.array([9.0, 1, 1, 1])})
    assert found == {
        "last": 25,
        "mean_last_10": None,
        "best_on_test_oracle": 50,
        "gap_best_last": 25,
        "best_on_noisy_validation": None,
    }
    assert measures.over_epochs(np.arange(4.0), curve)["at_best_on_test_oracle"] == 1
    trace = Trace(test_predictions=predictions, test_predictions_of_network2=predictions)
    both = judging.of_further_classifiers(trace, {"test": labels})["test_accuracy_of"]
    assert both["both_networks"]["last"] == both["network2"]["last"] == 25
    assert both["both_networks"]["best_on_test_oracle"] == 50
