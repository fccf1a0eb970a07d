"""Predict the same recordings in many formats, and compare the predictions.

python -m benchmarks.formats [--seed S]

A synthetic recording of each source is written in every way of GROUPS, read, and predicted by an untrained network
for the richest lead set that its leads fill. Prints the table of benchmarks/README.md, the recordings that were refused
or predicted differently, and for scale the differences for recordings that are written wrong.
"""

import argparse
import math
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import team_code
from benchmarks import ways
from benchmarks.fuzz import build_bundles
from ecg.data.headers import RecordError, read_header_text
from ecg.data.leads import LEAD_SETS, find_lead_set
from ecg.data.records import find_records, read_record
from ecg.data.synthetic import SYNTHETIC_SOURCES, SyntheticSettings, synthesize
from ecg.runtime.console import Progress
from ecg.runtime.keras_startup import start_keras

EXACT, CLOSE, COARSE = 0.0, 1e-3, 1e-2  # tolerance of a probability


class Outcome(NamedTuple):
    """Result of a recording in one format.

    Attributes:
        way: Name of the format.
        name: Name of the recording.
        difference: Largest difference of a probability; NaN if the recording is refused.
        fault: Why the result is not the same, or an empty string.
    """

    way: str
    name: str
    difference: float
    fault: str


GROUPS = {  # with the tolerance of each group
    "header dialects": (EXACT, ways.write_dialects),
    "the header's text": (EXACT, ways.write_texts),
    "ages and sexes": (EXACT, ways.write_demographics),
    "gains, units, baselines": (EXACT, ways.write_gains),
    "gains that round": (CLOSE, ways.write_rounded_gains),
    "WFDB's formats of 16 bits and more": (EXACT, ways.write_wide_formats),
    "formats of 8 to 12 bits": (COARSE, ways.write_narrow_formats),
    "frames of two samples, skews": (CLOSE, ways.write_frames_and_skews),
    "MATLAB files": (EXACT, ways.write_matlab_files),
    **{f"{frequency:,} Hz": (CLOSE, partial(ways.write_at_frequency, frequency)) for frequency in ways.FREQUENCIES},
    "lead sets, other orders, other leads": (EXACT, partial(ways.write_lead_sets, ways.ORDERS)),
    "two limb leads, with chest leads": (CLOSE, partial(ways.write_lead_sets, ways.PAIRS)),
}


def synthesize_recordings(folder, seed):
    """Synthesise a recording of each source below a folder: a list of PlainRecording."""
    recordings = []
    for number, source in enumerate(SYNTHETIC_SOURCES):
        # Clean, since -32768 means an invalid value in some of the formats only.
        synthesize(folder / source, 1, seed + number, SyntheticSettings(sources={source: 1.0}, clean=True))
        header, integers = read_record(*find_records(folder / source))
        facts = {"age": header.age, "sex": header.sex, "codes": header.codes}
        recordings.append(ways.PlainRecording(header.name, int(header.sampling_frequency), integers, facts))
    return recordings


def predict_written(way, written, within, plain, expected, bundles):
    """Write, read and predict a recording, and return its Outcome.

    `expected` has the plain recording's probabilities by the number of leads.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.hea"
        for name, content in {path.name: written.header, **written.files}.items():
            (path.parent / name).write_bytes(content)
        try:
            header, integers = read_record(path)
            count = find_lead_set(header.lead_names) or min(LEAD_SETS)  # its error names the missing leads
            probabilities = team_code.run_model(bundles[count], read_header_text(path), integers)[2]
        except RecordError as error:
            return Outcome(way, plain.name, math.nan, f"{error}")
    difference = float(np.abs(probabilities - expected[count]).max())
    facts = {"age": header.age, "sex": header.sex, "codes": header.codes}
    fault = (
        f"{facts}, expected {written.facts}" if str(facts) != str(written.facts) else ""
    )  # as strings, NaN equals NaN
    return Outcome(way, plain.name, difference, fault or (difference > within) * f"differs by {difference:.5f}")


def measure(plains, bundles, groups):
    """Predict each recording in each way of the groups: group -> list of Outcome."""
    outcomes = {group: [] for group in groups}
    with Progress("formats", len(plains), "recordings") as progress:
        for plain in plains:
            text = ways.write_recording(plain).header.decode()
            expected = {count: team_code.run_model(bundles[count], text, plain.integers)[2] for count in bundles}
            for group, (within, write) in groups.items():
                outcomes[group] += [
                    predict_written(*way, within, plain, expected, bundles) for way in write(plain).items()
                ]
            progress.advance()
    return outcomes


def format_lines(outcomes_by_group, groups):
    """Yield the lines of the table in Markdown, then the faults."""
    yield "| group | ways | recordings | predicted | the same | within | largest difference |"
    yield "|---" * 7 + "|"
    for group, outcomes in outcomes_by_group.items():
        differences = [outcome.difference for outcome in outcomes if not math.isnan(outcome.difference)]
        counts = len({outcome.way for outcome in outcomes}), len(outcomes), len(differences)
        largest, same = max(differences, default=math.nan), sum(not outcome.fault for outcome in outcomes)
        cells = (
            *(f"{count:,}" for count in (*counts, same)),
            f"{groups[group][0]:g}",
            f"{largest:.5f}" if largest else "0",
        )
        yield f"| {group} | {' | '.join(cells)} |"
    for group, outcomes in outcomes_by_group.items():
        yield from (f"{group}, {outcome.way}, {outcome.name}: {outcome.fault}" for outcome in outcomes if outcome.fault)


def main():
    """Measure all groups, and print the table and the differences if written wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    start_keras()
    import keras

    keras.utils.set_random_seed(options.seed)
    bundles = build_bundles()
    with tempfile.TemporaryDirectory() as folder:
        plains = synthesize_recordings(Path(folder), options.seed)
    print("\n".join(format_lines(measure(plains, bundles, GROUPS), GROUPS)))
    (wrong_outcomes,) = measure(plains, bundles, {"written wrong": (CLOSE, ways.write_wrong)}).values()
    for way in ways.write_wrong(plains[0]):
        differences = [outcome.difference for outcome in wrong_outcomes if outcome.way == way]
        print(f"{way}: differs by {min(differences):.4f} to {max(differences):.4f}")


if __name__ == "__main__":
    main()
