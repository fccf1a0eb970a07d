"""Write down how a training is repeated: as a command, or else in Python."""

import argparse
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, NoReturn

import keras

from ecg.commands import options
from ecg.commands.settings import adds_labels, choose_class_table, choose_sources, training_settings
from ecg.data.labels import CHALLENGE_CLASSES, default_sources
from ecg.reports.card_content import TrainingStart
from ecg.runtime.cache import fingerprint
from ecg.systems.recipes import CAI2021, RECIPES, Settings

COMMAND = "python -m ecg train DATA MODEL"
# Names that stand for files of the user, by the entries of the manifest.
WEIGHTS_FILE, CLASSES_FILE, INITIAL_MODEL = "WEIGHTS.csv", "CLASSES.csv", "INITIAL_MODEL"
SOURCES_FILE = "SOURCES.csv"
FILES = {"weights": WEIGHTS_FILE, "initial_model": INITIAL_MODEL, "patients": "PATIENTS.csv", "corrections": "REVIEWS"}
FILE_OPTIONS = {"patients": "groups", "corrections": "corrections"}  # options and arguments of `train`
INDIFFERENT = ("keep_stages",)  # settings that do not change the result


class QuietParser(argparse.ArgumentParser):
    """A parser that raises ValueError instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        """Raise ValueError with the message."""
        raise ValueError(message)


def describe_start(settings: Settings, manifest: Mapping[str, Any]) -> TrainingStart:
    """Return how a training is repeated.

    Args:
        settings: Settings of the training.
        manifest: Its manifest, with the digests of what it read.

    Returns:
        A command line if the options can express the settings, else lines of Python. Files of the user have names in
        capital letters.
    """
    digests = manifest["recordings"]
    facts = {"Keras backend": keras.backend.backend()}
    facts |= {f"digest of the stored recordings{f' {number}' * (len(digests) > 1)}": digest
             for number, digest in enumerate(digests, 1)}  # fmt: skip
    given = {name: file for name, file in FILES.items() if manifest[name] is not None}
    facts |= {f"fingerprint of {file}": fingerprint(manifest[name]) for name, file in given.items()}
    has_own_classes = settings.class_table != CHALLENGE_CLASSES
    if has_own_classes:
        facts[f"fingerprint of {CLASSES_FILE}"] = fingerprint(settings.class_table)
    has_own_sources = settings.sources != default_sources(settings.class_table)
    if has_own_sources:
        facts[f"fingerprint of {SOURCES_FILE}"] = fingerprint(settings.sources)
    files = {FILE_OPTIONS[name]: file for name, file in given.items() if name in FILE_OPTIONS}
    words = find_options(settings)
    if words is None:
        return TrainingStart(write_python(settings, files), "python", facts)
    shown = {settings.initial_model: INITIAL_MODEL} if settings.initial_model else {}
    words = [shown.get(word, word) for word in words]
    words += ["--classes", CLASSES_FILE] * has_own_classes + ["--sources", SOURCES_FILE] * has_own_sources
    words += ["--weights", WEIGHTS_FILE] * (settings.weights is not None)
    words += [word for option, file in files.items() for word in (f"--{option}", file)]
    return TrainingStart(" ".join([COMMAND, shlex.join(words)]).strip(), "sh", facts)


def find_options(settings: Settings) -> list[str] | None:
    """Return the options that give these settings, except files of the user.

    Returns:
        The words of the command line, or None if no options give the settings.
    """
    recipe = RECIPES.get(settings.system)
    if recipe is None:
        return None
    words, usual = (
        [] if recipe is CAI2021 else ["--system", settings.system],
        choose_sources(choose_class_table(recipe, settings.class_table), recipe, settings.sources),
    )
    words += [word for option in _changed_options(settings, usual) for word in option]
    parser = QuietParser()
    options.add_settings(parser)
    try:
        parsed = training_settings(parser.parse_args(words), settings.class_table, settings.sources)
    except (ValueError, argparse.ArgumentTypeError):
        return None
    expected = replace(settings, weights=usual.weights, keep_stages=usual.keep_stages)
    return words if parsed == expected else None


def _changed_options(settings: Settings, usual: Settings) -> Iterator[list[str]]:
    """Yield the options that would give the differences from the system's settings.

    Args:
        settings: Settings of the training.
        usual: The system's own settings.
    """
    values: dict[str, tuple[object, object]] = {
        name: (getattr(settings, name), getattr(usual, name))
        for name in ("seed", "folds", "splits", "validation_fold", "resamples", "hours", "decision", "fallback")
    }
    for name in ("epochs", "batch", "averaging", "precision"):
        values[name] = getattr(settings.training, name), getattr(usual.training, name)
    for name in ("width", "depth"):
        values[name] = getattr(settings.network, name, None), getattr(usual.network, name, None)
    pretraining = settings.pretraining
    values["pretrain"] = (pretraining.recordings if pretraining else 0,
                          usual.pretraining.recordings if usual.pretraining else 0)  # fmt: skip
    if settings.initial_model:
        values["pretrain"], values["init"] = (0, 0), (settings.initial_model, None)
    for name, (value, usual_value) in values.items():
        if value != usual_value and value is not None:
            yield [f"--{name.replace('_', '-')}", str(value)]
    if settings.lead_sets != usual.lead_sets:
        yield ["--leads", *map(str, settings.lead_sets)]
    if settings.augmentations != usual.augmentations:
        yield ["--augment", *settings.augmentations]
    if settings.answer_pairs != usual.answer_pairs:
        yield from (["--imply", "=".join(pair)] for pair in settings.answer_pairs)
    if settings.source_masks != usual.source_masks:
        yield ["--source-masks" if settings.source_masks else "--no-source-masks"]
    switches = {
        "--gate": settings.gate is not None and usual.gate is None,
        "--early-gains": any(view.preparation.early_gains for view in settings.views),
    }
    yield from ([name] for name, is_given in switches.items() if is_given)
    yield from _cleaning_options(settings, usual)


def _cleaning_options(settings: Settings, usual: Settings) -> Iterator[list[str]]:
    """Yield the options that change how labels are cleaned; see `_changed_options`."""
    cleaning, usual_cleaning = settings.cleaning, usual.cleaning
    conflated, partially = cleaning.conflated_classes, cleaning.partially_labelled
    n_own = len(usual_cleaning.conflated_classes)
    switches = {
        "--no-masks": usual_cleaning.masks and not cleaning.masks,
        "--no-relabel-flutter": any(rule.relabel for rule in usual_cleaning.conflated_classes)
        and not any(rule.relabel for rule in conflated[:n_own]),
        "--no-relabel-cpsc": adds_labels(usual) and not adds_labels(settings),
    }
    yield from ([name] for name, is_given in switches.items() if is_given)
    for lumped in conflated[n_own:]:
        yield ["--lumping", f"{','.join(lumped.sources)}={','.join(lumped.classes)}"]
    known = {(rule.sources, rule.labelled) for rule in usual_cleaning.partially_labelled}
    for rule in partially:
        if (rule.sources, rule.labelled) not in known:
            yield ["--omission", f"{','.join(rule.sources)}={','.join(rule.labelled)}"]


def write_python(settings: Settings, files: Mapping[str, str]) -> str:
    """Return the Python code that repeats a training.

    Args:
        settings: Settings of the training.
        files: Files of the user by the arguments of `ecg.commands.train.train`.
    """
    usual = RECIPES.get(settings.system)
    reference = choose_class_table(usual or Settings(), settings.class_table)
    reference = choose_sources(reference, usual or Settings(), settings.sources)
    start = recipe = "Settings()" if usual is None else f"RECIPES[{settings.system!r}]"
    changes, needed = [], {"ecg.commands.train": {"train"}, "ecg.systems.recipes": {start.rstrip("()").split("[")[0]}}
    own_classes = f"load_own_classes({CLASSES_FILE!r})" if settings.class_table != CHALLENGE_CLASSES else ""
    if own_classes:
        start = f"use_classes({start}, {own_classes})"
        needed |= {"ecg.systems.own_classes": {"use_classes"}, "ecg.data.labels": {"load_own_classes"}}
    if settings.sources != default_sources(settings.class_table):
        start = f"use_sources({start}, read_source_table({SOURCES_FILE!r}), {recipe})"
        needed.setdefault("ecg.systems.own_classes", set()).add("use_sources")
        needed["ecg.data.source_tables"] = {"read_source_table"}
    own_weights = f"load_own_weights({WEIGHTS_FILE!r}{', ' * bool(own_classes)}{own_classes})"
    shown = {"weights": own_weights, "initial_model": repr(INITIAL_MODEL)}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in INDIFFERENT or value == getattr(reference, field.name):
            continue
        is_file = value is not None and field.name in shown
        changes.append(f"    {field.name}={shown[field.name] if is_file else repr(value)},\n")
        if is_file and field.name == "weights":
            needed.setdefault("ecg.data.labels", set()).add("load_own_weights")
        for kind in _types_in(value):
            needed.setdefault(kind.__module__, set()).add(kind.__name__)
    imports = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(needed.items())]
    given = "".join(f', {name}="{file}"' for name, file in files.items())
    arguments = f"replace(\n    {start},\n{''.join(changes)})" if changes else start
    code = ["from dataclasses import replace", "", *imports, "", f"settings = {arguments}",
            f'train("DATA", "MODEL", settings{given})']  # fmt: skip
    return "\n".join(code)


def _types_in(value: Any) -> set[type]:
    """Return the types of a dataclass and of all dataclasses in it."""
    if isinstance(value, tuple):
        return set().union(*map(_types_in, value))
    if not is_dataclass(value):
        return set()
    types = {type(value)} if not isinstance(value, type) else set()
    return types.union(*(_types_in(getattr(value, field.name)) for field in fields(value)))
