"""Documentation agrees with the code, and the README's commands run."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from noisyctl import methods
from noisyctl.cli.commands import COMMANDS

ROOT = Path(__file__).parent.parent
NOISYCTL = Path(sys.executable).with_name("noisyctl")


def call(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    return subprocess.run([NOISYCTL, *words], cwd=cwd, capture_output=True, text=True, env=environment)


def test_artifacts_md_is_made_from_the_code() -> None:
    spec = importlib.util.spec_from_file_location("make_artifacts", ROOT / "docs" / "make_artifacts.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "artifacts.md").read_text() == module.text()


def test_performance_md_is_made_from_the_results() -> None:
    spec = importlib.util.spec_from_file_location("make_performance", ROOT / "docs" / "make_performance.py")
    assert spec and spec.loader
    maker = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "make_performance", maker)  # a dataclass looks for its module
        spec.loader.exec_module(maker)
    assert (ROOT / "docs" / "performance.md").read_text() == maker.page(), (
        "run python docs/make_performance.py"
    )


def test_the_readme_s_rows_are_the_methods_in_order() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| noisyctl/methods/(\w+)\.py \|", (ROOT / "README.md").read_text(), re.M
    )
    assert [name for name, _ in rows] == [file for _, file in rows] == list(methods.available())


def test_the_demonstration_names_methods_that_exist() -> None:
    assert set(yaml.safe_load((ROOT / "params.yaml").read_text())["methods"]) <= set(methods.available())


def test_the_demonstration_pretrains_and_mines_once() -> None:
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())
    stages = list(lock["stages"])
    assert sum(name.startswith("pretrain") for name in stages) == 1
    assert sum(name.startswith("mine-knn") for name in stages) == 1
    assert sum(name.startswith("train-method") for name in stages) >= 3


def test_the_readme_s_stages_by_hand_run(tmp_path: Path) -> None:
    text = (
        (ROOT / "README.md")
        .read_text()
        .split("The same stages by hand")[1]
        .split("Without options, pretraining")[0]
    )
    commands = re.findall(r"^    noisyctl (.*)$", text, re.M)
    assert len(commands) == 8
    for command in commands:
        done = call(*command.split(), cwd=tmp_path)
        assert done.returncode == 0, (command, done.stderr)
    metrics = json.loads((tmp_path / "data/digits/results/metrics.json").read_text())
    assert 0 < metrics["runs"]["mixnn/given-s0"]["test_accuracy"]["last"] <= 100


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_with_an_example_and_needs_no_torch(command: str) -> None:
    code = f"import sys; sys.argv = ['noisyctl', {command!r}, '--help']\nfrom noisyctl.cli.main import app\n"
    code += "try: app()\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'zarr', 'faiss', 'sklearn', 'torchvision') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.rstrip().endswith("[]"), done.stdout[-200:] + done.stderr[-500:]
    assert "Example:" in done.stdout or command == "train-method"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train-method", "mixn"], 2, "did you mean 'mixnn'"),
        (["train-method", "mixnn", "--set", "methods.mixnn.epoch=5"], 2, "did you mean 'epochs'"),
        (["mine-knn", "--k", "0"], 2, "greater than or equal to 1"),
        (["mine-knn", "--device", "cuda", "--features", "x.zarr"], 1, "doctor"),
        (["mine-knn", "--features", "nowhere.zarr"], 1, "nowhere.zarr does not exist; make it with"),
        (["inject-noise", "--kind", "symmetric", "--rate", "0.4"], 2, "include_true_class is missing"),
        (
            ["inject-noise", "--kind", "symmetric", "--rate", "1.4", "--exclude-true-class"],
            2,
            "less than or equal to 1",
        ),
        (["warmup", "--profile", "defualt"], 2, "did you mean 'default'"),
    ],
)
def test_bad_input_names_what_and_the_cure(words: list[str], code: int, message: str) -> None:
    done = call(*words)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_all_problems_of_a_params_file_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        "methods:\n  mixnn:\n    epoch: 3\n    batch_size: many\n    learning_rate: -1\n"
    )
    done = call("train-method", "mixnn", cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert [line.split()[1] for line in lines] == ["params.yaml:3:", "params.yaml:4:", "params.yaml:5:"], (
        done.stderr
    )
    assert done.returncode == 2


def test_dry_run_shows_values_with_their_sources() -> None:
    done = call("train-method", "mixnn", "--dry-run", "--epochs", "7")
    assert "epochs = 7   (--epochs)" in done.stderr
    assert "target_momentum = 0.9   (MixNN IV-E)" in done.stderr
    assert "params.yaml:" in done.stderr
    paths = [line for line in done.stderr.splitlines() if line.startswith("would ")]
    assert "would read  images: data/digits/images.zarr" in paths  # nothing is read or written
    assert "would write out: data/digits/runs/mixnn/sym60-s0" in paths
