"""A folder like PTB-XL, and rows of the real table."""

import numpy as np

from ecg.data.ptb_xl import load_meanings

COLUMNS = ("ecg_id", "patient_id", "age", "sex", "height", "weight", "report", "scp_codes", "heart_axis",
           "infarction_stadium1", "validated_by_human", "static_noise", "strat_fold", "filename_lr",
           "filename_hr")  # fmt: skip
# What the published table has: statements without a likelihood, ages above 89 as 300, empty cells, commas in cells.
ROWS = {
    1: (15709.0, 56.0, 1, "", 63.0, "sinusrhythmus periphere niederspannung",
        "{'NORM': 100.0, 'LVOLT': 0.0, 'SR': 0.0}", "", "", True, " , I-V1,  ", 3),
    8: (11275.0, 48.0, 0, "", 95.0, "sinusrhythmus linkstyp qrs(t) abnormal    inferiorer infarkt",
        "{'IMI': 35.0, 'ABQRS': 0.0, 'SR': 0.0}", "LAD", "unknown", True, " , I-AVF,  ", 9),
    17: (13619.0, 56.0, 0, "", "", "vorhof:hf 280, ueberdrehter linkstyp", "{'AFLT': 100.0, 'ABQRS': 0.0, 'AFIB': 0.0}",
         "ALAD", "unknown", True, "", 9),
    18: (13619.0, 56.0, 0, "", "", "\"vorhofflattern 2:1\nÜberleitung\"", "{'AFLT': 100.0}", "LAD", "", True, "", 9),
    108: (11810.0, 300.0, 1, "", 57.0, "sinustachykardie sonst normales ekg", "{'NORM': 80.0, 'STACH': 0.0}", "", "",
          True, "", 8),
    730: (565.0, "", 1, 168.0, 61.0, "left bundle branch block.", "{'CLBBB': 100.0, '1AVB': 100.0, 'SR': 0.0}", "", "",
          True, "", 7),
    999: ("", "", "", "", "", "", "{'LAO/LAE': 50.0, 'PRC(S)': 0.0, 'NEWONE': 1.0}", "", "", False, "", ""),
}  # fmt: skip
LEAD_NAMES = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")  # as in its headers


def record_path(number, rate):
    """The path of a record below the folder, without extension."""
    folder, letter = ("records500", "h") if rate == 500 else ("records100", "l")
    return f"{folder}/{number // 1000 * 1000:05d}/{number:05d}_{letter}r"


def write_table(folder, rows=None, columns=COLUMNS):
    """The table, as pandas writes it."""
    lines = [",".join(columns)]
    for number, row in (ROWS if rows is None else rows).items():
        cells = dict(zip(COLUMNS, (number, *row, record_path(number, 100), record_path(number, 500)), strict=True))
        lines.append(",".join(quote(str(cells[column])) for column in columns))
    (folder / "ptbxl_database.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def quote(cell):
    """A cell in quotation marks where it needs them."""
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\n') else cell


def write_ptb_xl(folder, numbers=None, seconds=10, seed=0):
    """Records at 500 Hz and 100 Hz without comments, the table, and the other files of the download."""
    random = np.random.default_rng(seed)
    for number in ROWS if numbers is None else numbers:
        for rate in (500, 100):
            path = folder / f"{record_path(number, rate)}.hea"
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = np.cumsum(random.normal(0, 20, (seconds * rate, 12)), axis=0).round().astype("<i2")
            path.with_suffix(".dat").write_bytes(samples.tobytes())
            sums = samples.sum(axis=0, dtype=np.int16)
            lines = [f"{path.stem} 12 {rate} {seconds * rate}"]
            lines += [f"{path.stem}.dat 16 1000.0(0)/mV 16 0 {first} {total} 0 {lead}"
                      for first, total, lead in zip(samples[0], sums, LEAD_NAMES, strict=True)]  # fmt: skip
            path.write_text("\n".join(lines) + "\n")
    write_statements(folder)
    (folder / "RECORDS").write_text("records100/00000/00001_lr\n")
    write_table(folder)
    return folder


def write_statements(folder):
    """The table of the statements; diagnostic ones have a superclass."""
    lines = [",description,diagnostic,form,rhythm,diagnostic_class"]
    for name, meaning in load_meanings().items():
        if not name.startswith("axis "):
            is_diagnostic = "1.0" if meaning.superclass else ""
            lines.append(f"{name},,{is_diagnostic},,,{meaning.superclass}")
    (folder / "scp_statements.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


# Statements and axis of recordings by the published table (version 1.0.1). The Challenge has them as HR00001 and so on.
REAL_STATEMENTS = {
    1: ("NORM LVOLT SR", ""), 2: ("NORM SBRAD", ""), 3: ("NORM SR", ""), 4: ("NORM SR", ""), 5: ("NORM SR", ""),
    6: ("NORM SR", ""), 7: ("NORM SR", "LAD"), 8: ("IMI ABQRS SR", "LAD"), 9: ("NORM SR", ""), 10: ("NORM SR", ""),
    14: ("NORM SR", ""), 15: ("NORM SARRH", ""), 16: ("NORM SR", ""), 17: ("AFLT ABQRS AFIB", "ALAD"),
    18: ("AFLT", "LAD"), 21: ("NORM SR", ""), 22: ("NDT SR", "LAD"), 23: ("AFLT", ""), 24: ("NORM SR", ""),
    25: ("NORM SR", ""), 27: ("NORM SR", "LAD"), 28: ("NST_ DIG SR", "LAD"), 29: ("NORM SR", ""), 30: ("LVH SR", ""),
    31: ("NORM SR", ""), 32: ("LPFB SR", "RAD"), 33: ("NORM SR", ""), 34: ("AFLT", ""), 35: ("NORM SR", ""),
    36: ("NORM SR", ""), 38: ("NORM SR", ""), 39: ("IMI LNGQT NST_ DIG ABQRS SR", "LAD"), 42: ("NORM SR", ""),
    43: ("NORM SR", ""), 44: ("NORM SR", ""), 46: ("NORM SR", ""), 47: ("NORM SR", ""), 49: ("IVCD SR", "RAD"),
    50: ("LMI IVCD SR", "LAD"), 51: ("NORM SR", ""), 52: ("IRBBB SR", ""), 53: ("NORM SR", ""), 54: ("NDT SR", ""),
    55: ("NORM SR", ""), 56: ("NORM SR", ""), 57: ("NORM SR", ""), 58: ("NORM SR", ""), 59: ("NORM SR", ""),
    60: ("NORM SR", "LAD"), 61: ("NORM SR", ""), 64: ("NORM SR", "LAD"), 68: ("NORM SR", "LAD"), 70: ("NORM SR", ""),
    71: ("NORM SR", ""), 72: ("NORM ABQRS SR", "RAD"), 73: ("NORM ABQRS SR", "ALAD"), 74: ("NORM SR", ""),
    76: ("NORM SARRH", "LAD"), 77: ("AMI IRBBB SR", ""), 78: ("NORM SBRAD", ""), 80: ("NORM SR", ""),
    81: ("NORM SR", ""), 82: ("NORM SR", ""), 83: ("NORM SR", ""), 84: ("NORM SR", ""), 85: ("NORM SR", ""),
    86: ("NORM SR", ""), 88: ("NORM SR", ""), 90: ("NORM SR", ""), 91: ("NORM SR", ""), 92: ("NORM SR", ""),
    93: ("NORM SR", ""), 95: ("NORM SR", ""), 97: ("NORM SR", "LAD"), 98: ("NORM SARRH", ""), 99: ("NORM SR", ""),
    100: ("NORM SARRH", "LAD"), 101: ("NORM SR", ""), 103: ("IMI LAFB ABQRS STACH", "ALAD"), 104: ("NORM SR", ""),
    105: ("NORM ABQRS SR", ""), 106: ("ASMI LVH ABQRS SR", ""), 107: ("NORM SR", "LAD"), 109: ("NORM SR", ""),
    111: ("NORM SR", ""), 114: ("NORM SR", ""), 115: ("NORM SR", ""), 116: ("NDT SR", "LAD"), 117: ("NORM SR", ""),
    118: ("NORM SR", ""), 121: ("NORM SR", ""), 123: ("NORM SR", ""), 124: ("NORM SR", ""), 125: ("NORM SR", ""),
    126: ("NORM SR", ""), 128: ("NDT", ""), 129: ("NORM SR", ""), 130: ("NORM SR", "LAD"), 132: ("NORM SR", "LAD"),
    133: ("NDT SR", ""), 134: ("NDT SR", ""), 135: ("ISCAL", ""),
}  # fmt: skip
