"""The same recordings written down in many ways: which are answered, and which as where they are written plainly.

python -m benchmarks.formats [--seed S]

A made-up recording of each source is written in every way of GROUPS, read again, and answered by an untrained network
for the richest lead set that its leads fill. Prints the table of benchmarks/README.md, then what was refused or
answered otherwise, and how far off answers are for recordings that are written wrong.
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
from benchmarks.fuzz import networks
from ecg.data.headers import RecordError, read_header_text
from ecg.data.leads import LEAD_SETS, lead_set
from ecg.data.records import find_records, read_record
from ecg.data.synthetic import SYNTHETIC_SOURCES, SyntheticSettings, synthesize
from ecg.runtime.console import Progress
from ecg.runtime.keras_startup import start_keras

EXACTLY, NEARLY, COARSELY = 0.0, 1e-3, 1e-2  # by how much a probability of the same recording may differ


class Outcome(NamedTuple):
    """How far off a recording's answer is in some way, NaN where it is refused, and why it is not the same, or ""."""

    way: str
    name: str
    difference: float
    fault: str


GROUPS = {  # with how near the answers should be
    "header dialects": (EXACTLY, ways.dialects),
    "the header's text": (EXACTLY, ways.texts),
    "ages and sexes": (EXACTLY, ways.ages_and_sexes),
    "gains, units, baselines": (EXACTLY, ways.gains),
    "gains that round": (NEARLY, ways.rounded_gains),
    "WFDB's formats of 16 bits and more": (EXACTLY, ways.wide_formats),
    "formats of 8 to 12 bits": (COARSELY, ways.narrow_formats),
    "frames of two samples, skews": (NEARLY, ways.frames_and_skews),
    "MATLAB files": (EXACTLY, ways.matlab_files),
    **{f"{frequency:,} Hz": (NEARLY, partial(ways.at, frequency)) for frequency in ways.FREQUENCIES},
    "lead sets, other orders, other leads": (EXACTLY, partial(ways.with_leads, ways.ORDERS)),
    "two limb leads, with chest leads": (NEARLY, partial(ways.with_leads, ways.PAIRS)),
}


def make_up(folder, seed):
    """Make up a recording of each source below a folder, and return them: a list of Plain."""
    plains = []
    for number, source in enumerate(SYNTHETIC_SOURCES):
        # Clean, since -32768 stands for no value in some of the formats only.
        synthesize(folder / source, 1, seed + number, SyntheticSettings(sources={source: 1.0}, clean=True))
        header, integers = read_record(*find_records(folder / source))
        facts = {"age": header.age, "sex": header.sex, "codes": header.codes}
        plains.append(ways.Plain(header.name, int(header.sampling_frequency), integers, facts))
    return plains


def outcome(way, written, within, plain, expected, bundles):
    """Write and read a recording and return its Outcome; expected: number of leads -> answer of the plain one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.hea"
        for name, content in {path.name: written.header, **written.files}.items():
            (path.parent / name).write_bytes(content)
        try:
            header, integers = read_record(path)
            count = lead_set(header.lead_names) or min(LEAD_SETS)  # whose answer says what is missing
            probabilities = team_code.run_model(bundles[count], read_header_text(path), integers)[2]
        except RecordError as error:
            return Outcome(way, plain.name, math.nan, f"{error}")
    difference = float(np.abs(probabilities - expected[count]).max())
    told = {"age": header.age, "sex": header.sex, "codes": header.codes}
    fault = f"{told}, expected {written.facts}" if str(told) != str(written.facts) else ""  # as text NaN is NaN
    return Outcome(way, plain.name, difference, fault or (difference > within) * f"differs by {difference:.5f}")


def measure(plains, bundles, groups):
    """Write, read and answer each recording in each way of the groups: group -> list of Outcome."""
    found = {group: [] for group in groups}
    with Progress("formats", len(plains), "recordings") as progress:
        for plain in plains:
            text = ways.write(plain).header.decode()
            expected = {count: team_code.run_model(bundles[count], text, plain.integers)[2] for count in bundles}
            for group, (within, written) in groups.items():
                found[group] += [outcome(*way, within, plain, expected, bundles) for way in written(plain).items()]
            progress.advance()
    return found


def lines(found, groups):
    """Yield the lines of the table, in Markdown, then those that were refused or differ."""
    yield "| group | ways | recordings | predicted | the same | within | largest difference |"
    yield "|---" * 7 + "|"
    for group, outcomes in found.items():
        differences = [each.difference for each in outcomes if not math.isnan(each.difference)]
        counts = len({each.way for each in outcomes}), len(outcomes), len(differences)
        largest, same = max(differences, default=math.nan), sum(not each.fault for each in outcomes)
        cells = (
            *(f"{count:,}" for count in (*counts, same)),
            f"{groups[group][0]:g}",
            f"{largest:.5f}" if largest else "0",
        )
        yield f"| {group} | {' | '.join(cells)} |"
    for group, outcomes in found.items():
        yield from (f"{group}, {each.way}, {each.name}: {each.fault}" for each in outcomes if each.fault)


def main():
    """Measure all groups, and print what became of them, and how far off those are that were written wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    start_keras()
    import keras

    keras.utils.set_random_seed(options.seed)
    bundles = networks()
    with tempfile.TemporaryDirectory() as folder:
        plains = make_up(Path(folder), options.seed)
    print("\n".join(lines(measure(plains, bundles, GROUPS), GROUPS)))
    (others,) = measure(plains, bundles, {"written wrong": (NEARLY, ways.wrong)}).values()
    for way in ways.wrong(plains[0]):
        differences = [each.difference for each in others if each.way == way]
        print(f"{way}: differs by {min(differences):.4f} to {max(differences):.4f}")


if __name__ == "__main__":
    main()
