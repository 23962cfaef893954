"""ImageNet weights: files of torchvision and timm, the download, what is refused."""

import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from noisyctl.errors import DataError, ParamsError
from noisyctl.nn.networks import Classifier, NetworkSpec
from noisyctl.nn.weights import download_weights, load_weights


def network(backbone: str = "resnet18_imagenet") -> Classifier:
    return Classifier(NetworkSpec(backbone, channels=3, size=(32, 32), num_outputs=4, head="linear"))


@pytest.fixture(scope="module")
def peer() -> torch.nn.Module:
    return torchvision.models.resnet18().eval()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_file_gives_torchvisions_features(
    peer: torch.nn.Module, suffix: str, tmp_path: Path
) -> None:
    path, ours = tmp_path / f"weights{suffix}", network().eval()
    (save_file if suffix == ".safetensors" else torch.save)(peer.state_dict(), path)
    load_weights(ours, path)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(peer.fc(ours.features(images)), peer(images))


def test_an_old_file_without_counters_is_taken(peer: torch.nn.Module, tmp_path: Path) -> None:
    state = {k: v for k, v in peer.state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.pth")
    ours = network()
    load_weights(ours, tmp_path / "old.pth")
    assert torch.equal(ours.features.state_dict()["conv1.weight"], peer.state_dict()["conv1.weight"])


def test_a_head_stays_as_it_was(peer: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(peer.state_dict(), tmp_path / "w.pth")
    ours = network()
    before = ours.head[0].weight.detach().clone()
    load_weights(ours, tmp_path / "w.pth")
    assert torch.equal(ours.head[0].weight, before)


def test_weights_of_another_network_are_refused(peer: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    state = peer.state_dict()
    ours = network()
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    deeper = state | {
        "layer4.2.conv1.weight": torch.zeros(2)
    }  # a longer network holds all layers of this one
    missing = {k: v for k, v in state.items() if k != "bn1.bias"}
    reshaped = state | {"conv1.weight": torch.zeros(64, 3, 3, 3)}
    for found, reason in (
        (deeper, r"'layer4.2.conv1.weight' is \(2,\), needed is nothing"),
        (missing, r"'bn1.bias' is nothing, needed is \(64,\)"),
        (reshaped, r"'conv1.weight' is \(64, 3, 3, 3\), needed is \(64, 3, 7, 7\)"),
    ):
        torch.save(found, path)
        with pytest.raises(DataError, match=reason + "; give weights of resnet18$"):
            load_weights(ours, path)
    torch.testing.assert_close(ours.state_dict(), before, rtol=0, atol=0)


class Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("evil"),)


def test_files_that_are_no_weights_are_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ours = network()
    with pytest.raises(DataError, match=r"none.pth does not exist; name a file of weights"):
        load_weights(ours, tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"conv1.weight": Evil()}, protocol=2))
    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("text.pth", "text.safetensors", "pickle.pth", "evil.pth", "list.pth"):
        with pytest.raises(DataError, match=f"{name} is not a file of weights ") as error:
            load_weights(ours, tmp_path / name)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "evil").exists()
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "run.pth")
    with pytest.raises(
        DataError, match="holds more than tensors by layer name; save the network's state_dict"
    ):
        load_weights(ours, tmp_path / "run.pth")


@pytest.mark.parametrize(
    ("backbone", "file"),
    [("resnet18_imagenet", "resnet18-f37072fd.pth"), ("resnet50_imagenet", "resnet50-0676ba61.pth")],
)
def test_a_download_is_torchvisions_first_weights(
    backbone: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def download(url: str, target: str, hash_prefix: str, progress: bool) -> None:
        asked.append((url, hash_prefix))
        torch.save(getattr(torchvision.models, backbone.removesuffix("_imagenet"))().state_dict(), target)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    ours = network(backbone)
    download_weights(ours)
    kept = torch.load(tmp_path / "hub/checkpoints" / file, weights_only=True)
    assert torch.equal(ours.features.state_dict()["conv1.weight"], kept["conv1.weight"])
    assert asked == [(f"https://download.pytorch.org/models/{file}", file[9:17])]


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("invalid hash value")])
def test_a_download_that_fails_names_the_way_round(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(DataError, match=r"could not download https://.*resnet18.*download it elsewhere"):
        download_weights(network())


def test_there_is_nothing_to_download_for_networks_of_small_images() -> None:
    with pytest.raises(ParamsError, match="torchvision has no weights of backbone 'resnet18'; name a file"):
        download_weights(network("resnet18"))
