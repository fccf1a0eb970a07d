from dataclasses import asdict, replace

import pytest

from ecg.commands.reproduction import find_options, write_python
from ecg.commands.train import keep_stratification
from ecg.systems.folds import ITERATIVE, STRATA
from ecg.systems.recipes import SYSTEMS, Settings

ZHAO = SYSTEMS["zhao2022"]


def test_a_training_of_an_older_version_keeps_its_folds():
    older = {name: value for name, value in asdict(ZHAO).items() if name != "stratification"}
    assert keep_stratification(ZHAO, {}) == ZHAO and ZHAO.stratification == ITERATIVE
    resumed = keep_stratification(ZHAO, older)
    assert resumed == replace(ZHAO, stratification=STRATA)
    assert keep_stratification(ZHAO, asdict(resumed)) == resumed  # its manifest now names them
    assert keep_stratification(ZHAO, asdict(ZHAO)) == ZHAO
    splits = replace(Settings(), splits=3)
    assert keep_stratification(splits, older).stratification == STRATA
    assert keep_stratification(Settings(), older) == Settings()  # it has neither folds nor splits


def test_a_training_with_older_folds_is_repeated_in_python():
    settings = replace(ZHAO, stratification=STRATA)
    assert find_options(settings) is None and find_options(ZHAO) == ["--system", "zhao2022"]
    assert "    stratification='strata',\n" in write_python(settings, {})


def test_an_unknown_stratification_is_refused():
    with pytest.raises(ValueError, match="stratification: expected one of iterative, strata, received 'none'"):
        Settings(stratification="none")
