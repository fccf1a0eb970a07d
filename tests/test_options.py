import argparse
from dataclasses import replace

import pytest

from ecg.cleaning import CleaningSettings, Lumping, Omission
from ecg.leads import LEAD_SETS
from ecg.options import add_settings, recipes, training_settings
from ecg.recipes import ABLATIONS, RECIPES, Gate, Settings


def settings(flags=""):
    """The settings that flags of training come to."""
    parser = argparse.ArgumentParser()
    add_settings(parser)
    return training_settings(parser.parse_args(flags.split()))


@pytest.mark.parametrize("name", RECIPES)
def test_a_system_is_its_recipe_where_nothing_else_is_given(name):
    assert settings(f"--system {name}") == RECIPES[name]


def test_the_method_is_the_system_where_none_is_given():
    assert settings() == Settings()


def test_flags_change_their_settings_and_no_others():
    flags = "--seed 0 --leads 2 12 2 --width 16 --epochs 3 --averaging 0.5 --resamples 0 --jobs 1 --keep-stages"
    method = Settings()
    assert settings(flags) == replace(
        method, seed=0, lead_sets=(2, 12), resamples=0, jobs=1, keep_stages=True,
        network=replace(method.network, width=16), training=replace(method.training, epochs=3, averaging=0.5),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        ("--hours 1.5", {"hours": 1.5}),
        ("--empty NSR", {"empty": "NSR"}),
        ("--folds 3", {"folds": 3}),
        ("--source-masks", {"source_masks": True}),
        ("--gate", {"gate": Gate()}),
        ("--imply TInv=TAb --imply LBBB=BBB", {"answer_pairs": (("TInv", "TAb"), ("LBBB", "BBB"))}),
        ("--leads 12 6 4 3 2", {"lead_sets": tuple(LEAD_SETS)}),
        ("--batch 8", {"training": replace(Settings().training, batch=8)}),
        ("--precision bfloat16", {"training": replace(Settings().training, precision="bfloat16")}),
    ],
)
def test_a_flag_changes_that_alone(flags, changes):
    assert settings(flags) == replace(Settings(), **changes)


def test_what_a_system_has_beside_is_kept_where_flags_change_its_training():
    for name in ("li2021", "zhao2022"):
        recipe = RECIPES[name]
        changed = settings(f"--system {name} --epochs 2 --gate --source-masks")
        assert changed.gate == (recipe.gate or Gate()) and changed.source_masks
        assert changed == replace(
            recipe, gate=changed.gate, source_masks=True, training=replace(recipe.training, epochs=2),
            pretraining=recipe.pretraining and replace(recipe.pretraining, epochs=2),
        )  # fmt: skip


def test_the_depth_is_that_of_the_rhythm_network_and_the_width_that_of_networks_that_have_one():
    assert settings("--system se_resnet_rhythm --depth 18").network == replace(
        RECIPES["se_resnet_rhythm"].network, depth=18
    )
    assert settings("--system li2021 --width 8").network == replace(RECIPES["li2021"].network, width=8)
    for flags in ("--depth 18", "--system zhao2022 --width 8", "--system xie2022 --depth 18 --width 8"):
        with pytest.raises(ValueError, match="its network has no "):
            settings(flags)
    with pytest.raises(ValueError, match="depth is 19, expected one of 18, 34, 50, 101, 152"):
        settings("--system se_resnet_rhythm --depth 19")


def test_systems_are_compared_in_the_order_of_their_names_each_once():
    assert recipes(["xie2022", "cai2021", "xie2022"]) == (RECIPES["xie2022"], RECIPES["cai2021"])
    assert recipes(["ablations"]) == (RECIPES["cai2021"], *ABLATIONS.values()) and len(ABLATIONS) == 7
    assert recipes(["zhao2022", "ablations", "cai2021-relu"]) == (RECIPES["zhao2022"], *recipes(["ablations"]))
    with pytest.raises(ValueError, match="vgg is no system"):
        recipes(["ablations", "vgg"])


def test_a_system_that_there_is_not_is_told_with_those_that_there_are():
    with pytest.raises(ValueError, match=f"vgg is no system; there are {', '.join(RECIPES)}"):
        settings("--system vgg")
    assert ABLATIONS.keys() < RECIPES.keys()


@pytest.mark.parametrize(
    "flags",
    ["--leads 5", "--seed -1", "--width 0", "--depth 0", "--epochs x", "--jobs 0", "--averaging 1", "--averaging -0.1",
     "--hours 0", "--hours inf", "--hours x", "--batch 0", "--batch 1.5", "--precision half", "--empty nsr",
     "--empty LVH", "--folds 1", "--imply TInv", "--imply TInv=STD", "--omission Mine", "--omission Mine=",
     "--lumping =AF,AFL", "--lumping Mine=AF,,AFL"],
)  # fmt: skip
def test_flags_that_make_no_sense_are_usage_errors(capsys, flags):
    with pytest.raises(SystemExit) as ended:
        settings(flags)
    assert ended.value.code == 2
    assert flags.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "cleaning"),
    [
        ("--no-relabel-flutter", CleaningSettings(lumpings=(Lumping(relabel=False),))),
        ("--no-relabel-cpsc", CleaningSettings(omissions=(Omission(relabel=False),))),
        ("--no-masks", CleaningSettings(masks=False)),
        ("--lumping Mine=SB,NSR", CleaningSettings(lumpings=(Lumping(), Lumping(("Mine",), ("SB", "NSR"))))),
        ("--omission X=AF --omission Y=AF,NSR --no-relabel-cpsc", CleaningSettings(omissions=(
            Omission(relabel=False), Omission(("X",), ("AF",)), Omission(("Y",), ("AF", "NSR"))))),
    ],
)  # fmt: skip
def test_flags_of_label_cleaning_change_that_alone(flags, cleaning):
    assert settings(flags) == Settings(cleaning=cleaning)


def test_what_a_recipe_believes_stays_believed_and_what_is_named_comes_beside_it():
    for name in ("li2021", "cai2021-no-relabelling"):
        cleaning = RECIPES[name].cleaning
        assert settings(f"--system {name} --omission Mine=AF").cleaning == replace(
            cleaning, omissions=(*cleaning.omissions, Omission(("Mine",), ("AF",)))
        )
