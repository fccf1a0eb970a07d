"""Use trained models from Python: load a model, predict recordings, embed them.

`from ecg import load, predict, embed` imports neither TensorFlow nor Keras: numpy computes the networks.
"""

import numbers
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from ecg.data.inputs import AnyRecording, OpenedRecording, Recording, open_recording, resolve_leads, set_demographics
from ecg.data.leads import LEAD_SETS
from ecg.data.preprocessing import Repair

if TYPE_CHECKING:
    from ecg.models.bundle import Bundle, Prediction


def load(folder: str | os.PathLike, leads: int | Iterable[str] | None = None) -> "Bundle":
    """Load a trained model from a model folder.

    Example:
        >>> from ecg import load
        >>> model = load("model", 2)
        >>> model.leads
        ('I', 'II')

    Args:
        folder: Model folder, as `ecg train` writes it.
        leads: The lead set: its number of leads, or names of leads in any order. By names, the model is that of the
            richest lead set that they fill, or the next smaller one in the folder. None: the largest in the folder.

    Raises:
        ModelError: There is no such model in the folder, it is damaged, or the leads fill no lead set.
        ValueError: A lead is unknown, or no lead set has this number.
    """
    from ecg.models.bundle import load_bundle
    from ecg.models.config import model_files

    folder = Path(folder)
    if leads is None:
        leads = next((count for count in LEAD_SETS if model_files(folder, count)[1].exists()), max(LEAD_SETS))
    return load_bundle(folder, resolve_leads(leads), fallback=not isinstance(leads, numbers.Integral))


@overload
def predict(  # type: ignore[overload-overlap]  # a str is a sequence of them
    model: "Bundle",
    recording: AnyRecording,
    leads: int | Sequence[str] | None = None,
    frequency: float | None = None,
    age: float | None = None,
    sex: str | None = None,
) -> "Prediction": ...


@overload
def predict(
    model: "Bundle",
    recording: Sequence[AnyRecording],
    leads: int | Sequence[str] | None = None,
    frequency: float | None = None,
) -> "list[Prediction]": ...


def predict(
    model: "Bundle",
    recording: AnyRecording | Sequence[AnyRecording],
    leads: int | Sequence[str] | None = None,
    frequency: float | None = None,
    age: float | None = None,
    sex: str | None = None,
) -> "Prediction | list[Prediction]":
    """Predict one recording, or several in batches.

    Arrays are preprocessed and repaired as records are. The model uses its own lead set of the leads that a recording
    has, and computes absent limb leads.

    Example:
        >>> import numpy as np
        >>> from ecg import load, predict
        >>> model = load("model", 2)
        >>> prediction = predict(model, "data/E00001")
        >>> prediction.leads, len(prediction.by_class)
        (('I', 'II'), 22)
        >>> millivolts = np.random.default_rng(0).normal(0, 0.1, (5000, 2))
        >>> prediction = predict(model, millivolts, leads=["I", "II"], frequency=500, age=60, sex="Female")
        >>> 0 < prediction.by_class["AF"] < 1
        True
        >>> len(predict(model, [millivolts, millivolts], leads=2, frequency=500))
        2

    Args:
        model: The model.
        recording: Path of a WFDB record, with or without extension; an array (n_samples, n_leads) of physical values in
            millivolts, in which NaN is a missing value; or a `Recording`. A list or tuple of these is several.
        leads: Leads of arrays, column by column: names, or the number of leads of a lead set in its standard order.
        frequency: Sampling frequency of arrays in Hz.
        age: Age in years, if there is one recording. It replaces that of the record.
        sex: Sex in words, if there is one recording. It replaces that of the record.

    Returns:
        The prediction, or a list of them.

    Raises:
        RecordError: A recording cannot be read or used: it lacks leads, has another shape, no finite samples, or no
            valid sampling frequency. The message names it.
        ValueError: A lead is unknown, or an argument does not apply.
        TypeError: It is neither a path nor an array nor a `Recording`.
    """
    if isinstance(recording, list | tuple):
        if age is not None or sex is not None:
            raise ValueError("age and sex: only for one recording; several have theirs as Recording(..., age, sex)")
        return [_predict_opened(model, opened) for opened in _open_each(recording, leads, frequency)]
    opened = _open(recording, "recording", leads, frequency)  # type: ignore[arg-type]  # other sequences are refused
    return _predict_opened(model, opened._replace(header=set_demographics(opened.header, age, sex)))


def embed(
    model: "Bundle",
    recordings: Sequence[AnyRecording],
    leads: int | Sequence[str] | None = None,
    frequency: float | None = None,
) -> np.ndarray:
    """Return the features of recordings before the last layer of a model.

    Features of different lead sets or models cannot be compared. If a model has several networks, the features of the
    first are followed by those of the next.

    Example:
        >>> from ecg import embed, load
        >>> features = embed(load("model", 2), ["data/E00001", "data/HR00002"])
        >>> features.shape[0], features.dtype
        (2, dtype('float32'))

    Args:
        model: The model.
        recordings: The recordings, as for `predict`, at least one.
        leads: Leads of arrays.
        frequency: Sampling frequency of arrays in Hz.

    Returns:
        (n_recordings, n_features) float32.

    Raises:
        RecordError: See `predict`.
        ValueError: There is no recording, a lead is unknown, or an argument does not apply.
        TypeError: The recordings are no list or tuple, or one is neither a path nor an array nor a `Recording`.
    """
    if not isinstance(recordings, list | tuple):
        raise TypeError(f"recordings: expected a list or tuple, received {type(recordings).__name__}")
    if not recordings:
        raise ValueError("recordings: expected at least one")
    return np.array([
        model.embed_recording(opened.header, opened.samples) for opened in _open_each(recordings, leads, frequency)
    ])  # fmt: skip


def _open_each(
    recordings: Sequence[AnyRecording], leads: int | Sequence[str] | None, frequency: float | None
) -> Iterator[OpenedRecording]:
    """Yield opened recordings, one at a time."""
    for number, recording in enumerate(recordings):
        yield _open(recording, f"recordings[{number}]", leads, frequency)


def _open(
    recording: AnyRecording, name: str, leads: int | Sequence[str] | None, frequency: float | None
) -> OpenedRecording:
    """Open a recording; see `predict`."""
    if isinstance(recording, np.ndarray):
        if leads is None:
            raise ValueError(f"{name}: an array needs leads=, the names of its columns or their number")
        return open_recording(Recording(recording, leads, frequency), name)  # type: ignore[arg-type]  # is checked
    if leads is not None or frequency is not None:
        raise ValueError(f"{name}: leads and frequency are for arrays; a record or a Recording has its own")
    return open_recording(recording, name)


def _predict_opened(model: "Bundle", opened: OpenedRecording) -> "Prediction":
    """Predict an opened recording."""
    return _add_warnings(model.predict_recording(opened.header, opened.samples), opened)


def _add_warnings(prediction: "Prediction", opened: OpenedRecording) -> "Prediction":
    """Add what is unusual about the files of a recording to its repairs."""
    warnings = tuple(Repair(warning, (), 1) for warning in opened.warnings)
    return prediction._replace(repairs=(*warnings, *prediction.repairs))
