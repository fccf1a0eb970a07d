"""A made-up folder with the layout of PhysioNet's LUDB 1.0.1: ludb.csv, and data/1.hea with data/1.dat."""

import csv

from ecg.data.records import find_records, read_record
from ecg.data.synthetic import SyntheticSettings, synthesize

RHYTHMS = {"426783006": "Sinus rhythm", "426177001": "Sinus bradycardia", "427084000": "Sinus tachycardia",
           "164889003": "Atrial fibrillation", "164890007": "Atrial flutter, typical"}  # fmt: skip
COLUMNS = ("ID", "Sex", "Age", "Rhythms", "Electric axis of the heart", "Conduction abnormalities", "Extrasystolies",
           "Hypertrophies", "Cardiac pacing", "Ischemia", "Non-specific repolarization abnormalities",
           "Other states")  # fmt: skip


def write_ludb(folder, scratch, records=40, seed=3):
    """Write synthetic recordings as LUDB has them, and return their rhythms by the name of the record."""
    synthesize(scratch, records, seed, SyntheticSettings(sources={"Georgia": 1.0}, clean=True))
    (folder / "data").mkdir(parents=True)
    rhythms, rows = {}, []
    for number, path in enumerate(find_records(scratch), 1):
        header, integers = read_record(path)
        rhythm = next((RHYTHMS[code] for code in header.codes if code in RHYTHMS), "Abnormal rhythm")
        integers.T.astype("<i2").tofile(folder / "data" / f"{number}.dat")
        leads = [f"{number}.dat 16 1000(0)/mV 16 0 {int(row[0])} 0 0 {name.lower()}"
                 for name, row in zip(header.lead_names, integers, strict=True)]  # fmt: skip
        comments = ["#<age>: 60", "#<sex>: M", "#<diagnoses>:", f"#Rhythm: {rhythm}."]
        text = "\n".join([f"{number} {len(leads)} 500 {integers.shape[1]}", *leads, *comments]) + "\n"
        (folder / "data" / f"{number}.hea").write_text(text)
        rhythms[str(number)] = rhythm
        rows.append((number, "M\n", ">89\n" if number == 1 else "60\n", f"{rhythm}\n", *[""] * (len(COLUMNS) - 4)))
    with open(folder / "ludb.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return rhythms
