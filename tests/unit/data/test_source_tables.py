import numpy as np
import pytest

from ecg.data.labels import CHALLENGE_CLASSES, CHALLENGE_SOURCES, LETTERS, default_sources, source_of
from ecg.data.loading import load_training_recording
from ecg.data.resampling import DEFAULT_PREPROCESSING
from ecg.data.source_tables import DeclaredSource, SourceTable, read_source_table
from ecg.data.store_content import StoreContent


def write_table(folder, text):
    path = folder / "sources.csv"
    path.write_text(text)
    return path


def test_the_challenges_table_is_an_instance_like_any_other():
    assert CHALLENGE_SOURCES.untrained == {"INCART", "PTB"}
    assert CHALLENGE_SOURCES.find_by_name("cpsc").labelled == ("AF", "IAVB", "LBBB", "NSR", "PAC", "RBBB", "PVC")
    assert CHALLENGE_SOURCES.find_by_name("Ningbo").conflated == ("AFL", "AF")
    assert default_sources(CHALLENGE_CLASSES) is CHALLENGE_SOURCES


@pytest.mark.parametrize(
    ("record", "source"),
    [("A0001", "CPSC"), ("A_1", "CPSC"), ("AB1", "AB"), ("JS10646", "Chapman-Shaoxing"), ("JS10647", "Ningbo"),
     ("JS010646", "Chapman-Shaoxing"), ("JS106460", "Ningbo"), ("JS0", "Chapman-Shaoxing"), ("JS", "JS"),
     ("HRx", "HRx"), ("HR1", "PTB-XL"), ("00017_hr", "PTB-XL"), ("1", "unknown"), ("", "unknown"), ("LUDB001", "LUDB")],
)  # fmt: skip
def test_a_record_is_of_the_source_whose_pattern_its_name_begins_with(record, source):
    assert source_of(record) == source
    letters = record.rstrip("0123456789_")
    assert LETTERS.find(record) == (letters if letters.isalpha() else "unknown")


def test_a_table_is_read_as_spreadsheets_write_it(tmp_path):
    lines = ["\ufeffPattern;Source;Trained;Labelled;Conflated;Notes", "[0-9]+$;LUDB;;NSR | SB;;x", ";;;;;",
             "old-;Archive;No;;AFL|AF;", ".;Rest;yes;;;"]  # fmt: skip
    path = write_table(tmp_path, "\n".join(lines))
    table = read_source_table(path)
    assert table.sources == (
        DeclaredSource("LUDB", "[0-9]+$", ("NSR", "SB")),
        DeclaredSource("Archive", "old-", (), ("AFL", "AF"), False),
        DeclaredSource("Rest", "."),
    )
    assert [table.find(name) for name in ("12", "12a", "old-1", "older")] == ["LUDB", "Rest", "Archive", "Rest"]
    assert table.untrained == {"Archive"} and table.find_by_name("ARCHIVE").name == "Archive"
    assert load_training_recording(tmp_path / "old-1.hea", sources=table).reason == "source Archive is not trained on"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ", line 1: expected the columns source and pattern, each once, received an empty file"),
        ("source,pattern\n", ": no source in this table"),
        ("source,pattern,trained\nA,a,\nB,b,maybe\n", ", line 3: trained: expected yes or no, received 'maybe'"),
        ("source,pattern\nA,(\n", ", line 2: A: '(' is no regular expression: "),
        ("source,pattern\n,a\n", ", line 2: a source has no name"),
        ("source,pattern,conflated\nA,a,AFL\n", ", line 2: A: expected two conflated classes, received AFL"),
        ("source,pattern,conflated\nA,a,AFL|AFL\n", ", line 2: A: expected two conflated classes, received AFL, AFL"),
    ],
)
def test_a_file_that_is_no_table_of_sources_is_refused_with_its_line(tmp_path, text, reason):
    path = write_table(tmp_path, text)
    with pytest.raises(ValueError) as refusal:
        read_source_table(path)
    assert str(refusal.value).startswith(f"{path}{reason}")


def test_the_sources_are_part_of_what_a_store_depends_on():
    contents = [
        StoreContent(load_training_recording, [], np.empty((0, 2), "S16"), DEFAULT_PREPROCESSING, sources=sources)
        for sources in (CHALLENGE_SOURCES, LETTERS, SourceTable((DeclaredSource("A", "a"),)))
    ]
    assert len({content.program for content in contents}) == 3
