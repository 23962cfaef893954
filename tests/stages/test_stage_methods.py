"""`noisyctl methods`: from the sources, without torch, one line a method."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from noisyctl import methods
from noisyctl.params import Needs
from stages import methods as stage

NOISYCTL = Path(sys.executable).with_name("noisyctl")


def test_every_method_is_told_with_its_paper_and_the_needs_of_its_module() -> None:
    rows = stage.run()
    assert list(rows) == list(methods.available())
    for name, row in rows.items():
        assert row["needs"] == asdict(methods.load(name).NEEDS), name
        assert row["summary"] and row["summary"].endswith("."), name
        assert row["papers"] or name == "cross_entropy", name
        assert "\n" not in str(row)


def test_one_line_and_json() -> None:
    done = subprocess.run([NOISYCTL, "methods"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == list(methods.available())
    assert (
        "knn_vote: k-NN vote: the mined neighbors vote on every label; nothing is trained. "
        "(Wu et al. 2018; Zhu et al. 2022) Needs neighbors."
    ) in lines
    assert done.stderr == ""
    as_json = subprocess.run([NOISYCTL, "methods", "--json"], capture_output=True, text=True, check=True)
    rows = json.loads(as_json.stdout)
    assert as_json.stdout.count("\n") == 1
    needs = dict.fromkeys(("pretrained", "neighbors", "clusters", "verified"), False)
    needs |= {"networks": 1, "warmup": True, "clusters_unless": None}
    assert rows["elr"]["needs"] == needs
    assert rows["elr"]["papers"] == [
        {
            "authors": "Liu et al.",
            "title": "Early-Learning Regularization Prevents Memorization of Noisy Labels",
            "published": "NeurIPS 2020",
        }
    ]


def test_torch_is_not_imported() -> None:
    code = "import sys; from stages import methods; methods.run(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('X.\n\nvan Rooyen et al., "A Title: with, commas", NeurIPS 2015; more.', "van Rooyen et al. 2015"),
        ('X.\n\nHan, Luo and Wang, "A\nTitle", ICCV 2019. Steps:', "Han et al. 2019"),
        ('X.\n\nYi and Wu, "T", CVPR 2019.', "Yi and Wu 2019"),
        ('X.\n\nIt is that of Wu et al., "T" (Name), CVPR 2018, section 3.', "Wu et al. 2018"),
        ('X. Steps:\n\n  [1] as Doe et al., "T", ICML 2020', ""),  # cited in a step: not the method's paper
        ("X, the baseline of Patrini et al., CVPR 2017.", ""),  # without its title
    ],
)
def test_citations_are_read_from_docstrings(text: str, expected: str) -> None:
    assert "; ".join(map(stage.short, stage.papers(text))) == expected


def test_needs_in_words() -> None:
    assert stage.needs_text(Needs()) == "1 network, warm-up"
    assert stage.needs_text(Needs(networks=0, warmup=False)) == "labels alone"
    all_of_them = Needs(networks=2, neighbors=True, clusters=True, verified=True)
    expected = "2 networks, warm-up, neighbors, clusters, verified labels (if given)"
    assert stage.needs_text(all_of_them) == expected
    unless = Needs(networks=2, pretrained=True, clusters=True, clusters_unless=("my_form", "printed"))
    expected = "2 networks, warm-up from label-free work, clusters (not for --my-form printed)"
    assert stage.needs_text(unless) == expected


def test_a_need_that_a_param_lifts() -> None:
    needs = Needs(clusters=True, clusters_unless=("form", "printed"))
    assert needs.under({"form": "code"}).clusters and needs.under({}).clusters
    assert not needs.under({"form": "printed"}).clusters
