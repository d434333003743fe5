"""The mean of a run's weights, and what is exported of it."""

from pathlib import Path

import pytest
import torch
from conftest import Stages
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file

from labelbridge.callbacks import AverageWeights
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError


class Net(LightningModule):
    """One trained weight, one frozen, that an optimizer moves by given steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.frozen = torch.nn.Parameter(torch.full((1,), 7.0), requires_grad=False)


class At:
    """As much of a Trainer as the callback asks for."""

    def __init__(self, step: int, steps: int = 10) -> None:
        self.global_step = step
        self.estimated_stepping_batches = steps
        self.sanity_checking = False
        self.state = type("State", (), {"fn": "fit"})()


def run(callback: AverageWeights, values: list[float], steps: int = 10) -> list[float]:
    """What each dev check sees, one after every step, whose weights are the values."""
    net, seen = Net(), []
    for step, value in enumerate(values, start=1):
        net.weight.data.fill_(value)
        trainer = At(step, steps)
        callback.on_train_batch_end(trainer, net, None, {"ends_window": True}, step - 1)
        callback.on_validation_start(trainer, net)
        seen.append(float(net.weight.detach()))
        assert float(net.frozen) == 7
        callback.on_validation_end(trainer, net)
        assert float(net.weight.detach()) == value  # training goes on from the weights themselves
    return seen


def test_without_a_setting_checks_see_the_weights():
    assert run(AverageWeights(), [1.0, 3.0]) == [1.0, 3.0]


@pytest.mark.parametrize("every", ["check", "step"])
def test_the_plain_mean(every: str):
    assert run(AverageWeights(every), [1.0, 3.0, 8.0]) == pytest.approx([1.0, 2.0, 4.0])


def test_a_mean_that_begins_half_way():
    assert run(AverageWeights("check", start=0.5), [1.0, 3.0, 5.0, 7.0], steps=4) == pytest.approx([1.0, 3.0, 4.0, 5.0])


def test_an_exponential_mean_is_not_drawn_to_the_first_weights():
    values, decay = [1.0, 3.0, 8.0, 2.0], 0.6
    weights = [decay ** (3 - i) for i in range(4)]
    expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert run(AverageWeights("step", decay=decay), values)[-1] == pytest.approx(expected)


def test_a_resumed_run_goes_on_with_the_mean():
    first = AverageWeights("check")
    run(first, [1.0, 3.0])
    second = AverageWeights("check")
    second.load_state_dict(first.state_dict())
    assert run(second, [8.0]) == pytest.approx([4.0])


@pytest.mark.parametrize(
    ("wrong", "said"), [({"start": 1}, "average.start is 1"), ({"decay": 0}, "average.decay is 0")]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], said: str):
    with pytest.raises(InputError, match=said):
        AverageWeights(**wrong)


class Keep(Callback):
    """Writes down the weights at every dev check, before the mean takes their place."""

    def __init__(self) -> None:
        self.checks: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: object) -> None:
        self.last = {name: value.clone() for name, value in module.state_dict().items()}

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.checks.append(self.last)
            torch.save(self.checks, "checks.pt")


@pytest.mark.slow
def test_the_exported_model_is_the_mean_over_the_checks(stages: Stages):
    """Of two epochs; the training itself has the same bits as without."""
    keep = "--trainer.callbacks+=test_averaging.Keep"
    assert stages.teacher("--average.every=check", "--export.choose=last", keep).code == 0
    checks = torch.load("checks.pt", weights_only=True)
    exported = load_file("teacher/model/model.safetensors")
    assert len(checks) == 2
    for name, value in exported.items():
        mean = (checks[0][f"network.{name}"] + checks[1][f"network.{name}"]) / 2
        torch.testing.assert_close(value, mean)
    assert stages.teacher("--export.choose=last", "--out=plain").code == 0
    plain = load_file("plain/model/model.safetensors")
    assert all(torch.equal(value, checks[1][f"network.{name}"]) for name, value in plain.items())
    identity = artifacts.read_manifest(Path("teacher")).config
    assert identity["average"] == {"every": "check", "start": 0.0, "decay": 1.0}
    assert artifacts.read_manifest(Path("plain")).config.get("average") != identity["average"]
