"""What is found by the name of its file, and what such a file must have."""

from pathlib import Path

import pytest

from noisyctl import datasets, methods, noise, pretraining
from noisyctl.errors import ParamsError
from noisyctl.registry import Registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    folder = tmp_path / "kinds_of_mine"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "whole.py").write_text('"""Whole."""\nParams = start = 1\n')
    (folder / "half.py").write_text("Params = 1\n")
    (folder / "_shared.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return Registry("kinds_of_mine", "kind", ("Params", "start", "predict"), {"old": "whole"})


def test_modules_are_the_files_of_the_folder(registry: Registry) -> None:
    assert registry.modules() == {"half": "kinds_of_mine.half", "whole": "kinds_of_mine.whole"}
    assert registry.spec_of("old").summary == "Whole."
    with pytest.raises(ParamsError, match="unknown kind 'haf'; did you mean 'half'"):
        registry.module_of("haf")


def test_a_file_that_lacks_a_name_is_refused_when_it_is_loaded(registry: Registry) -> None:
    said = (
        r"half.py: the kind 'half' has no start and no predict; its file must have Params, start and predict"
    )
    with pytest.raises(ParamsError, match=said):
        registry.load("half")


@pytest.mark.parametrize("package", [datasets, methods, noise, pretraining])
def test_every_file_has_what_it_must(package: object) -> None:
    registry = package.REGISTRY  # type: ignore[attr-defined]
    for name in registry.available():
        registry.load(name)
