"""Files as electrocardiographs and recorders write them, by writers that follow the published layouts.

SCP-ECG: EN 1064. ISHNE: Badilini 1998. MFER: ISO 22077-1. The XML of Philips and Mortara and the JSON of Kardia have no
standard; their layouts are those of open readers (sierra-ecg-tools, BRAVEHEART) and of the Kardia API.
"""

import base64
import binascii
import json
import struct
from typing import NamedTuple

import numpy as np

from tests.hospital_files import FREQUENCY, LEADS, MILLIVOLTS, NAMES, STATEMENTS, stored_leads

SCP_CODES = {"I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8,
             "III": 61, "aVR": 62, "aVL": 63, "aVF": 64}  # fmt: skip
ISHNE_CODES = {lead: code for code, lead in enumerate(LEADS, 5)}
MFER_CODES = {"I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8,
              "III": 61, "aVR": 62, "aVL": 63, "aVF": 64}  # fmt: skip
LIMB_LEADS = LEADS[:6]


class DeviceFormat(NamedTuple):
    """A format.

    Attributes:
        write: Writes a file, and returns the millivolts of its integers.
        ending: The ending of its names.
        leads: The leads in it.
        age: The age that it states, or None.
        sex: The sex that it states.
    """

    write: object
    ending: str
    leads: tuple
    age: int | None = 63
    sex: str = "Female"


def integers(step, leads=LEADS):
    """The samples of leads as multiples of a step in mV, (T, L)."""
    return np.rint(MILLIVOLTS[:, [LEADS.index(lead) for lead in leads]] / step).astype(int)


# --- SCP-ECG -----------------------------------------------------------------------------------------------------


def scp_section(number, body):
    """A section with its header: checksum, number, length, version, protocol and six reserved bytes."""
    body += b"\0" * (len(body) % 2)
    reserved = b"SCPECG" if number == 0 else b"\0" * 6
    rest = struct.pack("<HIBB6s", number, 16 + len(body), 20, 20, reserved) + body
    return struct.pack("<H", binascii.crc_hqx(rest, 0xFFFF)) + rest


def huffman_bits(difference):
    """The code of a number in the default table of EN 1064."""
    if difference == 0:
        return "0"
    if abs(difference) <= 8:
        return "1" * abs(difference) + "0" + ("1" if difference < 0 else "0")
    if -128 <= difference < 128:
        return "1111111110" + format(difference & 0xFF, "08b")
    return "1111111111" + format(difference & 0xFFFF, "016b")


def huffman_bytes(values):
    """Second differences in the default Huffman code; the first two samples are as they are."""
    differences = [*values[:2], *np.diff(values, 2)]
    bits = "".join(map(huffman_bits, differences))
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def scp_tag(number, value):
    """A field of the section about the patient."""
    return struct.pack("<BH", number, len(value)) + value


def scp_bytes(compressed):
    """A record of eight leads at 2.5 uV, plain or with second differences in Huffman code."""
    leads, names = stored_leads(), [name.encode() + b"\0" for name in NAMES]
    patient = b"".join((
        scp_tag(0, names[0]), scp_tag(1, names[1]), scp_tag(2, names[2]), scp_tag(3, b"Hidden-Second-Name\0"),
        scp_tag(4, struct.pack("<HB", 63, 1)), scp_tag(8, b"\2"), scp_tag(25, struct.pack("<HBB", 2024, 1, 2)),
        scp_tag(26, bytes((3, 4, 5))), scp_tag(14, bytes(14) + bytes((20, 0xA0, 1, 0)) + bytes(23)), b"\xff\0\0",
    ))  # fmt: skip
    length = len(MILLIVOLTS)
    definition = bytes((len(leads), 0b100 | len(leads) << 3))
    definition += b"".join(struct.pack("<IIB", 1, length, SCP_CODES[lead]) for lead in leads)
    columns = integers(2.5e-3, leads).T
    chunks = [huffman_bytes(column) if compressed else column.astype("<i2").tobytes() for column in columns]
    chunks = [chunk + b"\0" * (len(chunk) % 2) for chunk in chunks]
    rhythm = struct.pack("<HHBB", 2500, 1_000_000 // FREQUENCY, 2 * compressed, 0)
    rhythm += struct.pack(f"<{len(leads)}H", *map(len, chunks)) + b"".join(chunks)
    texts = [text.encode() + b"\0" for text in STATEMENTS]
    report = struct.pack("<BHBBBBBB", 1, 2024, 1, 2, 3, 4, 5, len(texts))
    report += b"".join(struct.pack("<BH", number, len(text)) + text for number, text in enumerate(texts, 1))
    sections = {1: patient, 3: definition, 6: rhythm, 8: report}
    if compressed:
        sections[2] = struct.pack("<H", 19999)
    packed = {number: scp_section(number, sections[number]) for number in sorted(sections)}
    pointers, position = b"", 7 + 16 + 10 * 12
    for number in range(1, 12):
        size = len(packed.get(number, b""))
        pointers += struct.pack("<HII", number, size, position if size else 0)
        position += size
    pointers = struct.pack("<HII", 0, 16 + 10 * 12, 7) + pointers
    content = scp_section(0, pointers) + b"".join(packed.values())
    content = struct.pack("<I", 6 + len(content)) + content
    return struct.pack("<H", binascii.crc_hqx(content, 0xFFFF)) + content


def write_scp(path):
    path.write_bytes(scp_bytes(compressed=False))
    return 2.5e-3


def write_scp_compressed(path):
    path.write_bytes(scp_bytes(compressed=True))
    return 2.5e-3


# --- ISHNE -------------------------------------------------------------------------------------------------------


def write_ishne(path, fault=False):
    """A Holter file of 12 leads at 2 uV; the first samples of lead II are no value if `fault`."""
    samples = integers(2e-3)
    if fault:
        samples[:7, 1] = -32768
    comment = b"a comment of the device"
    codes = [ISHNE_CODES[lead] for lead in LEADS]
    fixed = struct.pack(
        "<iiiih40s40s20shh3h3h3h3hh12h12h12hh40sh80s80s88s",
        len(comment), len(samples), 522, 522 + len(comment), 1, NAMES[1].encode(), NAMES[0].encode(),
        NAMES[2].encode(), 2, 0, 1, 2, 1960, 2, 1, 2024, 2, 1, 2024, 3, 4, 5, 12, *codes, *[0] * 12, *[2000] * 12, 0,
        b"digital", FREQUENCY, b"", b"", b"",
    )  # fmt: skip
    assert len(fixed) == 512
    block = fixed + comment
    checksum = binascii.crc_hqx(block, 0xFFFF)
    path.write_bytes(b"ISHNE1.0" + struct.pack("<H", checksum) + block + samples.astype("<i2").tobytes())
    return 2e-3


# --- MFER --------------------------------------------------------------------------------------------------------


def mfer(tag, value):
    """A definition: tag, length, value."""
    if len(value) < 128:
        return bytes((tag, len(value))) + value
    size = (len(value).bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + len(value).to_bytes(size, "big") + value


def write_mfer(path):
    """A 12-lead ECG in blocks of half a second, big-endian int16 at 1.25 uV."""
    blocks, block = 10, len(MILLIVOLTS) // 10
    waves = integers(1.25e-3).reshape(blocks, block, 12).transpose(0, 2, 1).astype(">i2").tobytes()
    channels = b"".join(
        bytes((0x3F, number)) + bytes((4,)) + mfer(0x09, MFER_CODES[lead].to_bytes(2, "big"))
        for number, lead in enumerate(LEADS)
    )
    path.write_bytes(b"".join((
        mfer(0x40, b"MFR Standard 12 leads ECG"), mfer(0x01, b"\0"), mfer(0x02, bytes((1, 5, 0))),
        mfer(0x08, b"\0\1"), mfer(0x05, b"\x0c"), mfer(0x0B, bytes((1, 256 - 3)) + (2).to_bytes(2, "big")),
        mfer(0x0C, bytes((0, 256 - 8)) + (125).to_bytes(2, "big")), mfer(0x0A, b"\0"),
        mfer(0x81, f"{NAMES[0]}^^{NAMES[1]}^Fonetika^Mittelname".encode()), mfer(0x82, NAMES[2].encode()),
        mfer(0x83, bytes((63, 0, 0)) + (1960).to_bytes(2, "big") + bytes((2, 1))), mfer(0x84, b"\2"),
        mfer(0x85, (2024).to_bytes(2, "big") + bytes((1, 2, 3, 4, 5))),
        mfer(0x04, block.to_bytes(2, "big")), mfer(0x06, bytes((blocks,))), channels, mfer(0x1E, waves), b"\x80\0",
    )))  # fmt: skip
    return 1.25e-3


# --- Philips -----------------------------------------------------------------------------------------------------


def lzw_bytes(content):
    """Compress content by LZW with codes of 10 bits. The table is full at 1022."""
    table = {bytes((value,)): value for value in range(256)}
    word, codes = b"", []
    for value in content:
        longer = word + bytes((value,))
        if longer in table:
            word = longer
            continue
        codes.append(table[word])
        if len(table) <= 1022:
            table[longer] = len(table)
        word = bytes((value,))
    bits = "".join(format(code, "010b") for code in (*codes, table[word], 1023))
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def xli_chunk(samples):
    """A lead in Philips' XLI compression: second differences, high bytes before low bytes, LZW."""
    predicted = 2 * samples[1:-1] - samples[:-2]
    errors = predicted - samples[2:]
    stored = np.concatenate((samples[:2], errors[1:] + 64, [64])).astype(">i2")
    halves = stored.view(np.uint8).reshape(-1, 2)
    packed = lzw_bytes(halves[:, 0].tobytes() + halves[:, 1].tobytes())
    return struct.pack("<iHh", len(packed), 0, errors[0]) + packed


def philips_xml(compressed):
    """A PhilipsECG document; compressed leads III to aVF hold what their computation from I and II leaves."""
    samples = integers(5e-3).astype(int)
    if compressed:
        first, second, third = samples[:, 0], samples[:, 1], samples[:, 2]
        samples = samples.copy()
        samples[:, 2] = second - first - third
        samples[:, 3] = -samples[:, 3] - (first + second) // 2
        samples[:, 4] = (first - third) // 2 - samples[:, 4]
        samples[:, 5] = (second + third) // 2 - samples[:, 5]
        content = b"".join(map(xli_chunk, samples.T))
    else:
        content = samples.T.astype("<i2").tobytes()
    flags = 'compressflag="True" compression="XLI"' if compressed else 'compressflag="False"'
    lines = "".join(f"<statement><leftstatement>{text}</leftstatement></statement>" for text in STATEMENTS)
    return (
        f'<?xml version="1.0" encoding="{"UTF-16" if compressed else "UTF-8"}"?><restingecgdata xmlns="http://www3.medical.philips.com">'
        "<documentinfo><documenttype>PhilipsECG</documenttype><documentversion>1.04</documentversion></documentinfo>"
        '<dataacquisition date="2024-01-02" time="03:04:05"><signalcharacteristics><samplingrate>500</samplingrate>'
        "<resolution>5</resolution><signaloffset>0</signaloffset><signalsigned>True</signalsigned>"
        "<numberchannelsallocated>12</numberchannelsallocated><acquisitiontype>STD-12</acquisitiontype>"
        "</signalcharacteristics></dataacquisition>"
        f"<patient><generalpatientdata><patientid>{NAMES[2]}</patientid><name><lastname>{NAMES[0]}</lastname>"
        f"<firstname>{NAMES[1]}</firstname><middlename>Mittelname</middlename></name><age><years>63</years></age>"
        "<sex>Female</sex></generalpatientdata></patient>"
        f"<interpretations><interpretation>{lines}</interpretation></interpretations>"
        f'<waveforms><parsedwaveforms dataencoding="Base64" {flags} durationperchannel="5000" samplespersecond="500" '
        f'resolution="5" numberofleads="12" leadlabels="I II III aVR aVL aVF V1 V2 V3 V4 V5 V6">'
        f"{base64.b64encode(content).decode()}</parsedwaveforms></waveforms></restingecgdata>"
    )


def write_philips(path):
    path.write_text(philips_xml(compressed=False), encoding="utf-8")
    return 5e-3


def write_philips_compressed(path):
    path.write_text(philips_xml(compressed=True), encoding="utf-16")
    return 5e-3


# --- Mortara -----------------------------------------------------------------------------------------------------


def write_mortara(path):
    """The XML of an ELI electrocardiograph, 400 units for 1 mV."""
    channels = "".join(
        f'<CHANNEL NAME="{lead}" OFFSET="0" UNITS_PER_MV="400" DURATION="{len(column)}" SAMPLE_FREQ="500" BITS="16" '
        f'FORMAT="SIGNED" ENCODING="BASE64" DATA="{base64.b64encode(column.astype("<i2").tobytes()).decode()}"/>'
        for lead, column in zip(LEADS, integers(2.5e-3).T, strict=True)
    )
    lines = "".join(f'<STATEMENT TEXT="{text}" REASON=""/>' for text in STATEMENTS)
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?><ECG ACQUISITION_TIME="20240102030405" AGE="63" AGE_UNITS="YEARS">'
        f'<SUBJECT LAST_NAME="{NAMES[0]}" FIRST_NAME="{NAMES[1]}" ID="{NAMES[2]}" GENDER="Female" DOB="19600201"/>'
        '<SOURCE MANUFACTURER="Mortara Instrument, Inc." MODEL="ELI 250"/>'
        f"<AUTOMATIC_INTERPRETATION>{lines}</AUTOMATIC_INTERPRETATION>{channels}</ECG>",
        encoding="utf-8",
    )
    return 2.5e-3


# --- Kardia ------------------------------------------------------------------------------------------------------


def write_kardia(path):
    """A recording of six leads by the Kardia API, 500 nV for a unit; it has neither name, age nor sex."""
    names = dict(zip(("leadI", "leadII", "leadIII", "AVR", "AVL", "AVF"), integers(5e-4, LIMB_LEADS).T.tolist(),
                     strict=True))  # fmt: skip
    block = {"frequency": FREQUENCY, "mainsFrequency": 50, "amplitudeResolution": 500, "numLeads": 6, "samples": names}
    path.write_text(json.dumps({
        "id": "8f2c", "patientID": NAMES[2], "duration": 5000, "heartRate": 70, "recordedAt": "2024-01-02T03:04:05Z",
        "algorithmDetermination": "sinus_rhythm", "note": f"{NAMES[1]} {NAMES[0]} felt well",
        "deviceInfo": {"hardwareType": "triangle"}, "data": {"raw": block},
    }))  # fmt: skip
    return 5e-4


FORMATS = {
    "SCP-ECG": DeviceFormat(write_scp, ".scp", stored_leads()),
    "SCP-ECG, compressed": DeviceFormat(write_scp_compressed, ".scp", stored_leads()),
    "ISHNE": DeviceFormat(write_ishne, ".ecg", LEADS),
    "MFER": DeviceFormat(write_mfer, ".mwf", LEADS),
    "Philips XML": DeviceFormat(write_philips, ".xml", LEADS),
    "Philips XML, compressed": DeviceFormat(write_philips_compressed, ".xml", LEADS),
    "Mortara XML": DeviceFormat(write_mortara, ".xml", LEADS),
    "Kardia JSON": DeviceFormat(write_kardia, ".json", LIMB_LEADS, None, "Unknown"),
}
# What else the files say of the patient.
HIDDEN = (*NAMES, "Hidden-Second-Name", "Fonetika", "Mittelname")
