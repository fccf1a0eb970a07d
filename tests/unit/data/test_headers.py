import errno
import math
import os
import re
import time
import timeit
import unicodedata

import numpy as np
import pytest
import wfdb
from helpers import COMMENTS, LEAD_LINES, RECORD_LINE, header_text

from ecg.data.headers import (
    LARGEST_GAIN,
    LONGEST_MESSAGE,
    MOST_BYTES,
    MOST_LEADS,
    HeaderError,
    RecordError,
    comment_values,
    parse_codes,
    parse_header,
    read_header,
)
from ecg.data.labels import CODE_OF_TEXT
from ecg.data.leads import LEADS
from ecg.data.records import find_records
from ecg.data.sex_words import SEX, SEX_WORDS, _spellings


def with_lead(line):
    """The header of one lead that this line describes."""
    return parse_header(header_text("A0001 1 500 7500", (line,)))


def check_against_wfdb(header, path):
    record = wfdb.rdheader(str(path.with_suffix("")))
    leads = header.leads
    assert header.name == record.record_name
    assert header.sampling_frequency == record.fs
    assert header.samples == (record.sig_len or 0)
    assert [lead.file for lead in leads] == record.file_name
    assert [lead.format for lead in leads] == record.fmt
    assert [lead.offset for lead in leads] == [offset or 0 for offset in record.byte_offset]
    assert [lead.gain for lead in leads] == record.adc_gain
    assert [lead.baseline for lead in leads] == record.baseline
    assert [lead.units for lead in leads] == record.units
    assert [lead.name.upper() for lead in leads] == [(name or "").upper() for name in record.sig_name]


def test_real_headers_of_every_dialect_read_as_wfdb_reads_them(real_data, tmp_path):
    paths = find_records(real_data / "dialects")
    assert {path.parent.name for path in paths} == {path.name for path in (real_data / "dialects").iterdir()}
    for path in paths:
        # wfdb takes no extension in a record's name, which one of the dialects has
        copy = tmp_path / path.name
        copy.write_text(re.sub(r"\A(\w+)\.mat", r"\1", path.read_text()))
        header = read_header(path)
        check_against_wfdb(header, copy)
        assert header.lead_names == LEADS
        assert {lead.per_millivolt for lead in header.leads} <= {1000.0, 4880.0}


def test_facts_of_the_dialects(real_data):
    def read(path):
        return read_header(real_data / "dialects" / path)

    assert read("challenge-2020-text/A0005.hea").codes == ("427172004",)
    assert read("early-2020-gain/E00015.hea").codes == ("251146004", "284470004")
    assert read("early-2020-gain/E00015.hea").name == "E00015"
    spaced = read("physionet-1.0.3/HR06009.hea")
    assert (spaced.age, spaced.sex, spaced.codes) == (61.0, "Female", ("426783006",))
    bare = read("ptb-xl-raw/00003_hr.hea")
    assert math.isnan(bare.age) and (bare.sex, bare.codes) == ("Unknown", ())


@pytest.mark.parametrize(
    "lead",
    [
        "A.dat 16",
        "A.dat 212x1:3+512",
        "A.dat 16+24 1000",
        "A.dat 16+24 1000.5/uV",
        "A.dat 16 2e2(-5)/mV 12",
        "A.dat 16 -200(7) 12 1024",
        "A.dat 16 200 12 1024",
        "A.dat 16 200 12 1024 -3 17",
        "A.dat 16 200/mV 12 1024 -3 -17 0",
        "A.dat 16 200/mV 12 1024 -3 -17 0 V1",
        "A.dat\t16\t200/mV  12 1024 -3 -17 0  ECG lead 2",
    ],
)
@pytest.mark.parametrize("record", ["A 1", "A 1 360", "A 1 257.5 1000", "A 1 500 1000 11:39:16", "A 1 500/360(2) 900"])
def test_missing_trailing_fields_default_as_in_wfdb(write_record, record, lead):
    path = write_record(f"{record}\n{lead}\n", name="A")
    check_against_wfdb(read_header(path), path)


def test_date_and_time_in_either_order_or_none():
    for moment in ("", "11:39:16", "05-Feb-2020 11:39:16", "11:39:16 05/02/2020", "11:39:16.250 5/2/2020"):
        header = parse_header(header_text(f"A0001 2 500 7500 {moment}"))
        assert (header.name, header.sampling_frequency, header.samples) == ("A0001", 500.0, 7500)


def test_blanks_tabs_and_an_extension_do_not_matter():
    plain = parse_header(header_text())
    with_blanks = header_text().replace(" ", " \t ").replace("\n", " \t\xa0\n").replace("A0001 \t 2", "\tA0001.mat 2")
    assert parse_header(with_blanks) == plain
    assert parse_header("\n\n" + header_text().replace("\n", "\r\n\r\n")) == plain


@pytest.mark.parametrize(
    "written, kind, frame, skew, offset",
    [("16", "16", 1, 0, 0), ("16+24", "16", 1, 0, 24), ("16x1+24", "16", 1, 0, 24), ("212", "212", 1, 0, 0),
     ("80x4:7+512", "80", 4, 7, 512), ("310:2", "310", 1, 2, 0), ("16x0", "16", 1, 0, 0)],
)  # fmt: skip
def test_a_format_may_have_samples_a_frame_a_skew_and_an_offset(written, kind, frame, skew, offset):
    lead = with_lead(f"A0001.dat {written} 200/mV 12 0 -3 17 0 I").leads[0]
    assert (lead.format, lead.samples_per_frame, lead.skew, lead.offset) == (kind, frame, skew, offset)
    assert lead.first_value == -3


def test_line_ends_byte_order_mark_blank_lines_and_places_of_comments_do_not_matter(write_record):
    plain = read_header(write_record(header_text()))
    for end in ("\r\n", "\r"):
        assert plain == read_header(write_record(header_text().replace("\n", end)))
    assert plain == read_header(write_record("\ufeff" + header_text()))
    assert plain == read_header(write_record(header_text().rstrip("\n")))
    assert plain == parse_header(
        "\n".join((*COMMENTS, "", RECORD_LINE, "# made by hand", LEAD_LINES[0], LEAD_LINES[1]))
    )
    assert plain == parse_header(header_text().replace("#", "# "))
    assert (plain.age, plain.sex, plain.codes) == (74.0, "Male", ("59118001", "164889003"))


def test_latin_1_is_read_where_utf_8_is_not(write_record):
    for encoding in ("utf-8", "latin-1"):
        text = header_text("A0001 1 500 7500", ("A0001.mat 16+24 2/µV 16 0 28 -1716 0 I",))
        for mark in (b"", b"\xef\xbb\xbf"):
            header = read_header(write_record(mark + text.encode(encoding)))
            assert (header.name, header.leads[0].per_millivolt) == ("A0001", 2000.0)


UNICODE = [f"utf-{bits}{order}" for bits in (16, 32) for order in ("", "-le", "-be")]  # without an order: with a mark


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", UNICODE)
@pytest.mark.parametrize(
    "extra", [(), ("#Hx: 心房颤动, männlich, \N{ANATOMICAL HEART}",), ("#Hx: \u200f" + 3000 * "ß",)]
)
def test_wide_encodings_are_named(write_record, encoding, mark, extra):
    data = (mark + header_text(comments=(*COMMENTS, *extra))).encode(encoding)
    with pytest.raises(HeaderError, match=r"B0007.hea: UTF-16, UTF-32 or no text, expected UTF-8, ASCII or Latin-1"):
        read_header(write_record(data, name="B0007"))


def test_content_that_is_no_text_is_refused(write_record):
    random, text = np.random.default_rng(0), header_text()
    ecg = np.rint(300 * np.sin(np.arange(2000) / 30)).astype("<i2")
    contents = [
        *(random.integers(0, 256, size, np.uint8).tobytes() for size in (1, 2, 3, 64, 5000)),
        *(mark + random.integers(0, 256, 500, np.uint8).tobytes() for mark in (b"\xff\xfe", b"\xfe\xff")),
        *(ecg.astype(kind).tobytes() for kind in ("<i2", ">i2", "<i4", "<f4", "<f8")),
        *(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\0", bytes(64), bytes(5000), b"\x7fELF\2\1\1" + bytes(9) + b"\3\0>\0"),
        *(text[:40].encode() + b"\0" + text[40:].encode(), "ÿþ männlich\n".encode("latin-1"), b"A\0", b""),
    ]
    for content in contents:
        with pytest.raises(HeaderError):
            read_header(write_record(content))
    assert read_header(write_record((text + "#Hx: ÿþ þÿ ß\n").encode("latin-1"))) == parse_header(text)


def test_record_name_loses_the_extension_of_a_file_and_nothing_else():
    for written, name in (("A0001.mat", "A0001"), ("A0001.hea", "A0001"), ("00003_hr", "00003_hr"), ("a.b", "a.b")):
        assert parse_header(header_text(f"{written} 2 500 7500")).name == name


def test_names_stay_as_written_on_request():
    lines = ("A0001.mat 16+24 1000/mV 16 0 0 0 0 AVR", "A0001.mat 16+24 1000/mV 16 0 0 0 0")
    text = header_text("A0001.mat 2 500 7500", lines)
    written, parsed = parse_header(text, as_written=True), parse_header(text)
    assert (written.name, written.lead_names) == ("A0001.mat", ("AVR", ""))
    assert (parsed.name, parsed.lead_names) == ("A0001", ("aVR", ""))
    assert (written.age, written.sex, written.codes) == (parsed.age, parsed.sex, parsed.codes)


@pytest.mark.parametrize(
    "gain, per_millivolt",
    [("1000/mV", 1000), ("1000.0(0)/mv", 1000), ("4.88/uV", 4880), ("2/µV", 2000), ("2/μV", 2000), ("1e6/V", 1000)],
)
def test_gain_is_the_integers_of_a_millivolt_in_every_unit_of_voltage(gain, per_millivolt):
    assert math.isclose(with_lead(f"A0001.mat 16 {gain} 16 0 0 0 0 I").leads[0].per_millivolt, per_millivolt)


def test_units_other_than_voltages_are_refused_only_for_millivolts():
    lead = with_lead("A0001.mat 16 1000/mmHg 16 0 0 0 0 ABP").leads[0]
    with pytest.raises(HeaderError, match="A0001.mat lead ABP: units 'mmHg' are not mV, uV or V"):
        _ = lead.per_millivolt


def test_codes_are_stripped_unique_and_in_order():
    text = header_text(comments=("#Dx: 2, LVH ,,2,1", "# Dx: 1,3,", "#Dx :,4", "\t#dx:4 5", "#Rx: 9"))
    assert parse_codes(text) == ("2", "LVH", "1", "3", "4", "4 5")
    assert parse_header(text).codes == ("2", "164873001", "1", "3", "4", "5")
    assert parse_header(header_text(comments=("#Dx:",))).codes == ()
    assert parse_header(header_text(comments=("#Dx: Unknown",))).codes == ("Unknown",)


@pytest.mark.parametrize(("written", "codes"), [
    ("59118001;426783006", ("59118001", "426783006")),
    ("59118001 ;\t426783006; ", ("59118001", "426783006")),
    ("59118001 426783006,164889003", ("59118001", "426783006", "164889003")),
    ("AF  RBBB", ("164889003", "59118001")),
    ("59118001,,426783006,", ("59118001", "426783006")),
    ("sinus rhythm; AF", ("sinus rhythm", "164889003")),
    (";, ;", ()),
])  # fmt: skip
def test_semicolons_and_blanks_separate_diagnoses_as_commas_do(written, codes):
    header = parse_header(header_text(comments=(f"#Dx: {written}",)))
    assert header.codes == codes


@pytest.mark.parametrize(("written", "codes"), [
    ("59118001;426783006,164889003", ("59118001;426783006", "164889003")),
    ("59118001 426783006", ("59118001 426783006",)),
    ("59118001, 426783006,", ("59118001", "426783006")),
])  # fmt: skip
def test_the_evaluator_splits_diagnoses_at_commas_alone(written, codes):
    text = header_text(comments=(f"#Dx: {written}",))
    assert parse_codes(text) == parse_header(text).evaluator_codes == codes


@pytest.mark.parametrize("gain", ["0", "0/mV", "-0.0(3)/mV", "0.0/uV"])
def test_a_gain_of_0_is_the_default_of_wfdb(gain):
    lines = (LEAD_LINES[0], f"A0001.mat 16+24 {gain} 16 0 28 0 0 II")
    lead = parse_header(header_text(leads=lines)).leads[1]
    assert lead.gain == 200 and lead.gain_is_zero and not lead.gain_written
    assert not parse_header(header_text(leads=lines)).leads[0].gain_is_zero
    assert parse_header(header_text(leads=lines), as_written=True).leads[1].gain == 0


@pytest.mark.parametrize("gain", ["1e999", "-1e-300", "1e13"])
def test_a_gain_that_no_recorder_has_is_refused_only_for_millivolts(gain):
    lead = parse_header(header_text(leads=(LEAD_LINES[0], f"A0001.mat 16+24 {gain}/mV 16 0 28 0 0 II"))).leads[1]
    with pytest.raises(HeaderError, match=r"A0001.mat lead II: gain .* is not within 1e-09 to 1e\+12 of either sign"):
        lead.per_millivolt  # noqa: B018 - it raises


def test_diagnoses_in_words_become_their_codes_once():
    header = parse_header(header_text(comments=("#Dx: pvc,427172004,Normal,i-avb,STD,nonsense",)))
    assert header.codes == ("427172004", "426783006", "270492004", "429622005", "nonsense")
    assert parse_header(header_text(comments=("#Dx: " + ",".join(CODE_OF_TEXT),))).codes == tuple(
        dict.fromkeys(CODE_OF_TEXT.values())
    )


def test_comments_are_what_follows_the_colon():
    text = header_text(comments=("#Dx: 2, 2,", "# sex:F", "#Age:\t74 ", "#Dx:", "#Dxs: 5", "#Rx: 6"))
    assert [comment_values(text, key) for key in ("Dx", "Sex", "age")] == [[" 2, 2,", ""], ["F"], ["\t74 "]]
    assert comment_values(header_text(comments=()), "Dx") == []


@pytest.mark.parametrize(
    "written, years",
    [("74", 74), ("74.0", 74), ("89+", 89), ("57y/o", 57), ("57 yr.", 57), ("057Y", 57),
     ("57 y", 57), ("57 years", 57), ("6M", 0.5), ("18 months", 1.5),
     ("20D", 20 / 365.25), ("26 weeks", 26 * 7 / 365.25), ("0", 0), ("1e2", 100), ("NaN", math.nan),
     ("Unknown", math.nan), ("", math.nan), ("-1", math.nan), ("-1.0", math.nan), ("300", math.nan),
     ("1e999", math.nan), ("inf", math.nan), ("57 kg", math.nan), ("5 7", math.nan), (">89", math.nan)],
)  # fmt: skip
def test_an_age_is_in_years_or_unknown(written, years):
    age = parse_header(header_text(comments=(f"#Age: {written}",))).age
    assert math.isclose(age, years) or (math.isnan(age) and math.isnan(years))


def parse_sex(written):
    return parse_header(header_text(comments=(f"#Sex: {written}",))).sex


@pytest.mark.parametrize("language", SEX_WORDS)
def test_every_language_has_words_for_both_sexes(language):
    for sex, words in zip(("Female", "Male"), SEX_WORDS[language], strict=True):
        assert words.split()
        for word in words.split():
            decomposed = unicodedata.normalize("NFD", word)
            for written in (word, word.upper(), word.title(), decomposed, f"{word}.", f"({decomposed}) 1"):
                assert parse_sex(written) == sex, written
    letters = [{word for word in words.split() if len(word) == 1} for words in SEX_WORDS[language]]
    assert all(letters) or not letters[0]  # none has a letter for women alone


def test_no_word_is_of_both_sexes_and_an_ambiguous_letter_is_of_none():
    female, male = (
        {spelling for words in SEX_WORDS.values() for word in words[index].split() for spelling in _spellings(word)}
        for index in (0, 1)
    )
    assert not female & male and female | male == SEX.keys()
    assert {"english", "german", "french", "spanish", "italian", "portuguese", "dutch", "chinese"} <= {
        language.casefold() for language in SEX_WORDS
    }
    assert [parse_sex(letter) for letter in "FMVH01"] == ["Female", "Male", "Unknown", "Male", "Unknown", "Unknown"]


@pytest.mark.parametrize("written", ["männlich", "ma\u0308nnlich", "MÄNNLICH", "maennlich", "Maennlich", "mannlich"])
def test_umlauts_are_read_composed_decomposed_and_transcribed(write_record, written):
    assert parse_sex(written) == "Male"
    for encoding in ("utf-8", *["latin-1"] * ("\u0308" not in written)):
        assert read_header(write_record(header_text(comments=(f"#Sex: {written}",)).encode(encoding))).sex == "Male"


def test_age_and_sex_are_kept_as_they_are_written():
    header = parse_header(header_text(comments=("#Age: 5", "#Sex: male", "# Age:  300 ", "#Sex: 0")))
    assert (header.age_written, header.sex_written, header.sex) == ("300", "0", "Unknown")
    assert math.isnan(header.age)
    header = parse_header(header_text(comments=()))
    assert (header.age_written, header.sex_written) == ("", "")


def test_sex_in_any_spelling_and_none_for_a_number():
    spellings = {
        "Male": "M m male MALE Male man Male. (male) boy male/1",
        "Female": "F f Female FEMALE female W woman female; weiblich girl",
        "Unknown": "0 1 U NaN X (0)",
    }
    for sex, words in spellings.items():
        for written in words.split():
            assert parse_header(header_text(comments=(f"# Sex : {written} ",))).sex == sex, written
    assert parse_header(header_text(comments=())).sex == "Unknown"


def test_a_header_that_does_not_say_has_the_defaults_of_wfdb():
    header = parse_header("A 1\nA.mat 16\n")
    lead = header.leads[0]
    assert (header.sampling_frequency, header.samples, lead.gain, lead.units) == (250, 0, 200, "mV")
    assert (lead.baseline, lead.offset, lead.name, header.codes) == (0, 0, "", ())
    assert math.isnan(header.age) and header.sex == "Unknown"


@pytest.mark.parametrize("frequency", ["10", "100", "257.5", "500", "1e3", "2000", "10000"])
def test_sampling_frequencies_of_ecgs_and_beyond_are_read(frequency):
    assert parse_header(header_text(f"A0001 2 {frequency} 7500")).sampling_frequency == float(frequency)


def test_standard_leads_are_known_in_any_case_and_others_stay():
    for written, name in (("avr", "aVR"), ("AVR", "aVR"), ("aVR", "aVR"), ("v1", "V1"), ("MLII", "MLII"), ("ii", "II")):
        assert with_lead(f"A0001.mat 16 1000/mV 16 0 0 0 0 {written}").lead_names == (name,)


def test_leads_get_their_standard_names_and_keep_what_was_written():
    lines = [f"A0001.mat 16 1000/mV 16 0 0 0 0 {name}" for name in ("Lead I", "MDC_ECG_LEAD_AVR", "C2", "V7")]
    text = header_text("A0001 4 500 7500", lines)
    header, as_written = parse_header(text), parse_header(text, as_written=True)
    assert header.lead_names == ("I", "aVR", "V2", "V7")
    written = ("Lead I", "MDC_ECG_LEAD_AVR", "C2", "V7")
    assert as_written.lead_names == tuple(lead.written for lead in header.leads) == written


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "x.hea: no record line"),
        ("#Age: 74\n", "x.hea: no record line"),
        ("A0001\n", "x.hea line 1: number of leads is missing"),
        ("A0001 two\n", "x.hea line 1: number of leads 'two' is not a COUNT"),
        ("A0001/3 2 500 7500\n", "x.hea line 1: record name 'A0001/3' is not the NAME of a record of one segment"),
        (header_text("A0001 2 fast 7500"), "x.hea line 1: sampling frequency 'fast' is not NUMBER"),
        (header_text("A0001 2 0 7500"), "x.hea line 1: sampling frequency '0' is not within 10 to 10,000 Hz"),
        (header_text("A0001 2 1e-9 7500"), "x.hea line 1: sampling frequency '1e-9' is not"),
        (header_text("A0001 2 1e9 7500"), "x.hea line 1: sampling frequency '1e9' is not"),
        (header_text("A0001 2 10001 7500"), "x.hea line 1: sampling frequency '10001' is not within"),
        (header_text("A0001 2 nan 7500"), "x.hea line 1: sampling frequency 'nan' is not NUMBER"),
        (header_text("A0001 2 -500 7500"), "x.hea line 1: sampling frequency '-500' is not"),
        (header_text("A0001 2 1e999 7500"), "x.hea line 1: sampling frequency '1e999' is not"),
        (header_text("A0001 2 500 -7500"), "x.hea line 1: number of samples '-7500' is not a COUNT"),
        (header_text("A0001 3 500 7500"), "x.hea: 2 lead lines where the record line says 3"),
        (header_text("A0001 1 500 7500"), "x.hea: 2 lead lines where the record line says 1"),
        (header_text("A0001 0 500 7500", ()), "x.hea: 0 lead lines where the record line says 0"),
        ("A0001 2 500 7500/2\n", "x.hea line 1: number of samples '7500/2' is not a COUNT"),
        ("\x89PNG\r\n\x1a\n\0\0", "x.hea line 1: number of leads is missing"),
        (f"A0001 {'9' * 400}\n", f"x.hea line 1: number of leads '{'9' * 40}...' is not a COUNT"),
        (
            header_text(f"A {MOST_LEADS + 1}", ("A.dat 16",) * (MOST_LEADS + 1)),
            "x.hea: 1,001 lead lines, expected 1,000 or fewer",
        ),
    ],
)
def test_a_bad_header_is_reported_with_its_position(text, message):
    with pytest.raises(HeaderError, match=re.escape(message)):
        parse_header(text, "x.hea")


@pytest.mark.parametrize(
    "line, message",
    [
        ("A0001.mat", "format is missing"),
        ("A0001.mat 16x-1+24", "format '16x-1+24' is not FORMAT[xSAMPLES][:SKEW][+OFFSET]"),
        ("A0001.mat x16", "format 'x16' is not FORMAT[xSAMPLES][:SKEW][+OFFSET]"),
        ("A0001.mat 16+24 1000(/mV 16 0 28 0 0 II", "gain '1000(/mV' is not NUMBER[(BASELINE)][/UNITS]"),
        ("A0001.mat 16+24 nan/mV 16 0 28 0 0 II", "gain 'nan/mV' is not NUMBER[(BASELINE)][/UNITS]"),
        ("A0001.mat 16+24 1000/mV 16 zero 28 0 0 II", "ADC zero 'zero' is not an INTEGER"),
        ("A0001.mat 16+24 1000/mV II", "ADC resolution 'II' is not an INTEGER"),
        ("A0001.mat 16+24 1000/mV 16 0 28 0 block II", "block size 'block' is not an INTEGER"),
    ],
)
def test_a_bad_lead_line_is_reported_with_its_field(line, message):
    with pytest.raises(HeaderError, match=re.escape(f"x.hea line 3: {message}")):
        parse_header(header_text(leads=(LEAD_LINES[0], line)), "x.hea")


@pytest.mark.parametrize(
    "file",
    [".", "..", "../A0001.mat", "/etc/passwd", "below/A0001.mat", "http://a.b/c.mat", "..\\A0001.mat", "C:A0001.mat",
     "a::b", "A\0.mat", "A\x1b.mat", "A\x7f.mat"],
)  # fmt: skip
def test_a_file_has_a_name_and_no_path(file):
    with pytest.raises(HeaderError, match="line 2: file .* is not the name of a FILE in the header's folder"):
        with_lead(f"{file} 16+24 1000/mV 16 0 28 -1716 0 I")


def test_gains_of_either_sign_and_any_size_that_makes_sense_are_read():
    for gain in (200.0, -200.0, 4880.0, 2e6, 1e-9, -LARGEST_GAIN):
        assert with_lead(f"A0001.mat 16 {gain}/mV").leads[0].gain == gain


@pytest.mark.parametrize(
    ("line", "written"), [("A.dat 16", False), ("A.dat 16 200", True), ("A.dat 16 200(3)/mV", True)]
)
def test_a_written_gain_differs_from_the_default_of_wfdb(line, written):
    lead = with_lead(line).leads[0]
    assert (lead.gain, lead.gain_written) == (200, written)


def test_no_line_takes_long_to_be_found_bad():
    """A word of digits that could be split in many ways would take hours."""
    many = "1" * 300_000
    started = time.process_time()
    for line in (
        f"A 1 {many}x",
        f"A 1 {many}.{many}x",
        f"A 1 500{' ' * 300_000}x",
        f"A 1 {'1e' * 150_000}",
        f"A {many}",
    ):
        for text in (f"{line}\nA.dat 16\n", f"A 1\nA.dat 16 {line[4:]}\n"):
            with pytest.raises(HeaderError) as caught:
                parse_header(text)
            assert len(str(caught.value)) < 200
    assert time.process_time() - started < 2


def test_random_damage_raises_nothing_but_header_errors():
    random = np.random.default_rng(0)
    text, symbols = header_text(), "0123456789+-./()x #:\n\r\t\0é"
    outcomes = set()
    for _ in range(2000):
        damaged = list(text)
        for index in random.integers(len(text), size=random.integers(1, 4)):
            damaged[index] = symbols[random.integers(len(symbols))] * random.integers(3)
        try:
            outcomes.add(type(parse_header("".join(damaged))))
        except HeaderError as error:
            outcomes.add(type(error))
    assert len(outcomes) == 2


def test_a_header_parses_in_a_fraction_of_a_millisecond(real_data):
    text = (real_data / "dialects/challenge-2021/A0689.hea").read_text()
    assert min(timeit.repeat(lambda: parse_header(text), number=50, repeat=5)) / 50 < 0.5e-3


def test_what_is_no_file_of_a_headers_size_is_refused_unread(tmp_path):
    folder, link, pipe, large = (tmp_path / f"{name}.hea" for name in ("folder", "link", "pipe", "large"))
    folder.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    os.mkfifo(pipe)  # opening it would wait for a writer
    with open(large, "wb") as file:
        file.truncate(100 * MOST_BYTES)
    for path, reason in ((folder, "a folder, expected a file"), (link, "cannot be read: No such file"),
                         (pipe, "no regular file, expected a file"), (tmp_path / "none.hea", "cannot be read: No such"),
                         (large, "104,857,600 bytes, expected 1,048,576 or fewer"),
                         (tmp_path / ("n" * 300 + ".hea"), "cannot be read: File name too long")):  # fmt: skip
        with pytest.raises(HeaderError, match=f"{path.name}: {reason}"):
            read_header(path)
    (tmp_path / "device.hea").symlink_to("/dev/zero")
    with pytest.raises(HeaderError, match="device.hea: no regular file"):
        read_header(tmp_path / "device.hea")


def test_a_file_without_the_permission_to_read_it_is_reported(write_record, unprivileged):
    path = write_record(header_text())
    path.chmod(0)
    with unprivileged(), pytest.raises(HeaderError, match="A0001.hea: cannot be read: Permission denied"):
        read_header(path)


def test_a_disk_that_fails_is_reported(write_record, monkeypatch):
    def fail(*arguments, **settings):
        raise OSError(errno.EIO, "Input/output error")

    path = write_record(header_text())
    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(HeaderError, match="A0001.hea: cannot be read: Input/output error"):
        read_header(path)


def test_a_file_of_garbage_is_a_bad_header(write_record):
    random = np.random.default_rng(0)
    for size in (0, 1, 24, 1000, 100_000):
        with pytest.raises(HeaderError, match=r"^A0001\.hea[ :]") as caught:
            read_header(write_record(random.bytes(size)))
        assert len(str(caught.value)) < 300


def test_no_message_is_longer_than_can_be_read():
    lines = [f"A.mat 16+24 1000/mV 16 0 0 0 0 {'x' * 1000}{number}" for number in range(MOST_LEADS + 5)]
    with pytest.raises(HeaderError, match="1,005 lead lines") as caught:
        parse_header("\n".join([f"A {len(lines)} 500 1000", *lines]))
    assert len(str(caught.value)) < LONGEST_MESSAGE
    long = str(RecordError("begin " + "x" * 10**6 + " end"))
    assert len(long) <= LONGEST_MESSAGE and long.startswith("begin x") and long.endswith("x end") and " ... " in long
    assert str(RecordError("x" * LONGEST_MESSAGE)) == "x" * LONGEST_MESSAGE


def test_a_header_keeps_its_checksums_and_how_it_writes_its_diagnoses():
    header = parse_header(header_text(comments=("#Dx: RBBB,,59118001, RBBB,",)))
    assert header.diagnoses_written == ("RBBB", "59118001", "RBBB") and header.codes == ("59118001",)
    lines = ["A 3 500 10", "A.mat 16 1000/mV 16 0 5 -17 0 I", "A.mat 16 1000/mV 16 0 5", "A.mat 16 1000/mV 16 0 5 0"]
    assert [lead.checksum for lead in parse_header("\n".join(lines)).leads] == [-17, None, 0]
