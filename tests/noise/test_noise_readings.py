"""benchmarks/two_stage_noise.py: the levels that it prints, by hand, and the committed page."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readings", ROOT / "benchmarks" / "two_stage_noise.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_levels_by_hand(benchmark: ModuleType) -> None:
    swapped, one_way, *_ = benchmark.READINGS.values()
    # mistaken are 2, 3, 5, 6 and 7: 1032 + 1010 + 892 + 958 + 1028 of 10,000; with balanced classes 5 and 6 alone
    assert benchmark.levels(swapped) == pytest.approx((50.80, 81.50))
    assert benchmark.levels(one_way) == pytest.approx((60.38, 100.0))  # 6 is right


def test_paths_one_after_the_other_move_what_has_moved(benchmark: ModuleType) -> None:
    matrix = benchmark.in_turn((2, 7), (7, 1))
    assert matrix[2].tolist() == pytest.approx([0, 0.36, 0.4, 0, 0, 0, 0, 0.24, 0, 0])


def test_the_committed_page_and_the_documentation_are_in_step(benchmark: ModuleType) -> None:
    page = (ROOT / "benchmarks" / "results" / "two_stage_noise.md").read_text()
    assert page == benchmark.page()
    documented = (ROOT / "docs" / "fidelity.md").read_text()
    for line in page.splitlines()[3:]:
        assert line in documented
