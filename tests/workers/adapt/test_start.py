"""What is measured before anything is planned."""

from torch import nn

from workers.adapt.plan import export_seconds
from workers.adapt.start import num_layers


def test_layers_are_the_modules_that_hold_no_others() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    assert num_layers(nn.Sequential(inner, nn.ReLU(), nn.Sequential(inner[0]))) == 3  # a shared one counts once
    assert num_layers(nn.ReLU()) == 1


def test_each_layer_adds_to_the_export() -> None:
    assert export_seconds(190) > 2 * export_seconds(46) > 2 * export_seconds(0) > 0
