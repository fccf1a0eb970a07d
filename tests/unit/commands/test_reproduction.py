import argparse
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

import ecg.commands.train
from ecg.commands.options import add_settings
from ecg.commands.reproduction import COMMAND, describe_start, find_options
from ecg.commands.settings import training_settings
from ecg.data.class_files import WEIGHTS
from ecg.data.labels import load_own_weights
from ecg.systems.recipes import RECIPES, Settings, SyntheticPretraining
from ecg.training.settings import TrainingSettings

MANIFEST = {"recordings": ["a"], "weights": None, "initial_model": None, "patients": None, "corrections": None}
FLAGS = [
    "--seed 3 --leads 2 12 --epochs 4 --batch 8 --averaging 0.5 --precision bfloat16 --width 8 --resamples 7",
    "--folds 3 --hours 0.5 --decision expected_credit --fallback NSR --imply TInv=TAb --imply AFL=AF",
    "--no-relabel-flutter --no-relabel-cpsc --no-masks --source-masks --early-gains --gate",
    "--omission Mine=AF,NSR --omission Other=PVC --lumping Mine=AFL,AF --augment gain mixup",
    "--pretrain 500 --epochs 2",
    "--system apprentice --pretrain 0 --splits 2",
    "--system apprentice --epochs 2 --batch 16 --width 8",
    "--system li2021 --no-source-masks --epochs 3",
    "--system li2021 --omission CPSC=AF,NSR",
    "--system nejedly2021 --folds 4 --decision thresholds",
    "--system se_resnet_rhythm --depth 18",
    "--system cai2021-no-masks --seed 0",
    "--init /some/model --decision half",
    "--system apprentice --init /some/model",
]


def parse(words):
    parser = argparse.ArgumentParser()
    add_settings(parser)
    return training_settings(parser.parse_args(words))


def run_code(code, monkeypatch):
    """The settings that code gives to `train`, and its other arguments."""
    received = []
    monkeypatch.setattr(ecg.commands.train, "train", lambda *values, **options: received.append((values, options)))
    exec(code, {})
    ((values, keywords),) = received
    assert values[:2] == ("DATA", "MODEL")
    return values[2], keywords


@pytest.mark.parametrize("name", RECIPES)
def test_a_system_as_it_is_needs_only_its_name(name):
    assert find_options(RECIPES[name]) == ([] if name == "cai2021" else ["--system", name])


@pytest.mark.parametrize("flags", FLAGS)
def test_the_options_found_give_the_settings_again(flags):
    settings = parse(flags.split())
    words = find_options(settings)
    assert parse(words) == settings
    assert len(words) <= len(flags.split())


def test_the_number_of_processes_and_the_stages_are_not_among_the_options():
    assert find_options(parse(["--jobs", "3", "--keep-stages", "--seed", "1"])) == ["--seed", "1"]


@pytest.mark.parametrize("settings", [
    replace(RECIPES["cai2021"], validation_share=0.3),
    replace(RECIPES["zhao2022"], training=replace(RECIPES["zhao2022"].training, patience=3)),
    replace(RECIPES["li2021"], system="mine", seed=5),
    replace(RECIPES["nejedly2021"], network=replace(RECIPES["nejedly2021"].network, blocks=2)),
    Settings(pretraining=SyntheticPretraining(100, loss="focal", training=TrainingSettings(epochs=1))),
    replace(RECIPES["xie2022"], lead_sets=()),
], ids=lambda settings: settings.system)  # fmt: skip
def test_settings_that_no_option_gives_are_written_as_python_that_gives_them(settings, monkeypatch):
    assert find_options(settings) is None
    start = describe_start(settings, MANIFEST)
    assert start.language == "python"
    again, keywords = run_code(start.code, monkeypatch)
    assert again == settings and not keywords


def test_files_of_the_user_have_other_names(monkeypatch, tmp_path):
    (tmp_path / "WEIGHTS.csv").write_text(WEIGHTS.read_text().replace("0.5", "0.25"))
    monkeypatch.chdir(tmp_path)
    weights = load_own_weights(Path("WEIGHTS.csv"))
    settings = replace(Settings(), weights=weights, initial_model=str(tmp_path / "secret"))
    manifest = MANIFEST | {"recordings": ["a", "b"], "weights": weights, "initial_model": "1", "patients": "2",
                           "corrections": "3"}  # fmt: skip
    start = describe_start(settings, manifest)
    words = shlex.split(start.code)
    assert " ".join(words[:6]) == COMMAND
    assert words[6:] == ["--init", "INITIAL_MODEL", "--weights", "WEIGHTS.csv", "--groups", "PATIENTS.csv",
                         "--corrections", "REVIEWS"]  # fmt: skip
    parser = argparse.ArgumentParser()
    add_settings(parser)
    parser.parse_args(words[6:])  # every option exists
    assert {"digest of the stored recordings 1", "digest of the stored recordings 2"} <= start.facts.keys()
    assert len([name for name in start.facts if name.startswith("fingerprint of ")]) == 4
    assert str(tmp_path) not in start.code + str(start.facts)

    start = describe_start(replace(settings, validation_share=0.3), manifest)
    again, keywords = run_code(start.code, monkeypatch)
    assert again.weights == weights and again.initial_model == "INITIAL_MODEL"
    assert keywords == {"groups": "PATIENTS.csv", "corrections": "REVIEWS"}
    assert str(tmp_path) not in start.code


def test_a_name_with_a_space_is_quoted():
    settings = parse(["--omission", "My clinic=AF"])
    code = describe_start(settings, MANIFEST).code
    assert parse(shlex.split(code)[6:]) == settings


def test_a_name_that_no_option_can_have_is_written_as_python(monkeypatch):
    settings = parse(["--omission", "Mine=AF"])
    rules = settings.cleaning.partially_labelled
    strange = replace(settings, cleaning=replace(settings.cleaning, partially_labelled=(
        *rules[:-1], replace(rules[-1], sources=("A=B'\n",)))))  # fmt: skip
    start = describe_start(strange, MANIFEST)
    assert run_code(start.code, monkeypatch)[0] == strange
