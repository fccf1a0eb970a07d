"""A stand-in for the Challenge's script: python test_model.py MODEL DATA OUTPUTS.

Written from its description. It reads headers and recordings, loads a model once a lead set, and writes a file
for each recording of the folder. It uses only `load_model` and `run_model` of the entry.
"""

import os
import sys

import numpy as np
from scipy.io import loadmat

from team_code import load_model, run_model

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def sort_leads(leads):
    """Sort the standard leads; other leads follow in their order."""
    return tuple(sorted(leads, key=lambda lead: LEADS.index(lead) if lead in LEADS else len(LEADS)))


def read_leads(header):
    """Return the lead names of a header: the last words of its lead lines."""
    first, *lines = header.split("\n")
    return tuple(line.split(" ")[-1].strip() for line in lines[: int(first.split(" ")[1])])


def read_header(path):
    """Return a header's text."""
    with open(path) as file:
        return file.read()


def main(model_folder, data_folder, output_folder):
    """Write the output file of each recording; an error gives an empty output."""
    names = sorted(file[:-4] for file in os.listdir(data_folder) if file.endswith(".hea") and not file.startswith("."))
    headers = {name: read_header(os.path.join(data_folder, f"{name}.hea")) for name in names}
    models = {}
    for header in headers.values():
        leads = sort_leads(read_leads(header))
        if leads not in models:
            models[leads] = load_model(model_folder, leads)
    os.makedirs(output_folder, exist_ok=True)
    for name, header in headers.items():
        recording = loadmat(os.path.join(data_folder, f"{name}.mat"))["val"]
        try:
            outputs = run_model(models[sort_leads(read_leads(header))], header, np.asarray(recording))
        except Exception as error:  # noqa: BLE001 - as the Challenge's script does
            print(f"{name}: {error!r}", file=sys.stderr)
            outputs = [], [], []
        lines = [f"#{header.split(' ')[0]}", *(",".join(map(str, values)) for values in outputs)]
        with open(os.path.join(output_folder, f"{name}.csv"), "w") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
