import pytest
from helpers import out_of_range

from ecg.commands.protocol import Protocol
from ecg.systems.recipes import Settings
from ecg.training.settings import TrainingSettings


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [(Settings, *wrong) for wrong in out_of_range("seed", "hours", "folds", "splits", "resamples")]
    + [(TrainingSettings, *wrong) for wrong in out_of_range("batch", "averaging", "epochs")]
    + [(Protocol, *wrong) for wrong in out_of_range("folds", "hours", "epochs", "batch", "width", "depth", "seed")],
)
def test_settings_refuse_what_the_command_line_refuses(settings, name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected "):
        settings(**{name: value})


def test_an_excluded_source_has_a_name():
    with pytest.raises(ValueError, match="leave_out"):
        Protocol(leave_out="")
