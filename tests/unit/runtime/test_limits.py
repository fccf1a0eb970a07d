import numpy as np
import pytest
from helpers import out_of_range

from ecg.data import synthetic
from ecg.runtime.limits import LIMITS, check_limits

WRONG = [float("nan"), float("inf"), -float("inf"), -1, 1e9, "", "1", None]


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_holds_its_ends_and_nothing_beyond(name):
    limit = LIMITS[name]
    step = 1 if limit.integer else 1e-6
    assert (
        limit.contains(limit.minimum) != limit.exclude_minimum
        and limit.contains(limit.maximum) != limit.exclude_maximum
    )
    assert limit.contains(limit.minimum + step) and limit.contains(limit.maximum - step)
    assert not limit.contains(limit.minimum - step) and not limit.contains(limit.maximum + step)
    assert not any(limit.contains(value) for value in WRONG if value != 1e9 or name != "seed")
    assert limit.contains(np.int64(limit.minimum + 1)) == limit.contains(limit.minimum + 1)
    assert limit.contains(limit.minimum + 0.5) != limit.integer


def test_a_message_names_what_was_expected_and_received():
    for values, message in (
        ({"noise": float("nan")}, "noise: expected a number from 0 to 100, received nan"),
        ({"jobs": 0}, "jobs: expected an integer from 1 to 1,024, received 0"),
        ({"hours": 0.0}, "hours: expected a number above 0 and up to 100,000, received 0.0"),
        ({"averaging": 1}, "averaging: expected a number from 0 to below 1, received 1"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            check_limits(**values)
    check_limits(noise=0, jobs=None, hours=1)


def synthesize_nowhere(**options):
    """Synthesize into a folder that cannot exist: a wrong value is refused first."""
    arguments = {name: options.pop(name) for name in ("records", "seed") if name in options}
    settings = synthetic.SyntheticSettings(**options)
    return synthetic.synthesize("/dev/null/nowhere", **{"records": 3} | arguments, settings=settings)


@pytest.mark.parametrize(("name", "value"), out_of_range("seed", "noise", "wrong_labels", "records"))
def test_synthesis_refuses_what_the_command_line_refuses(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected "):
        synthesize_nowhere(**{name: value})


@pytest.mark.parametrize("share", [float("nan"), float("inf"), -1, 0, 1e9, "1"])
def test_shares_of_sources_are_numbers_above_0(share):
    with pytest.raises(ValueError, match="^share: expected a number above 0"):
        synthesize_nowhere(sources={"Georgia": share})
