import numpy as np
import pytest
import scipy.io
import wfdb

from ecg.data import labels, synthetic
from ecg.data.headers import read_header
from ecg.data.leads import LEADS
from ecg.data.records import find_records, read_record
from ecg.data.synthetic_defects import UNKNOWN_CODES
from ecg.runtime.executors import LocalExecutor

AF, AFL = labels.CLASS_INDEX["AF"], labels.CLASS_INDEX["AFL"]
EVERY = dict.fromkeys(synthetic.SYNTHETIC_SOURCES, 1.0)


@pytest.fixture(scope="module")
def synthetic_folder(tmp_path_factory):
    """A folder of recordings of every source, and their true facts."""
    folder = tmp_path_factory.mktemp("made")
    return folder, synthetic.synthesize(folder, 40, seed=1, settings=synthetic.SyntheticSettings(sources=EVERY))


@pytest.fixture(scope="module")
def clean_folder(tmp_path_factory):
    """The same recordings without defects."""
    folder = tmp_path_factory.mktemp("clean")
    return folder, synthetic.synthesize(
        folder, 40, seed=1, settings=synthetic.SyntheticSettings(sources=EVERY, clean=True)
    )


def file_contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_headers_and_integers_are_read_as_meant(synthetic_folder):
    folder, patients = synthetic_folder
    assert sorted(patient.name for patient in patients) == [path.stem for path in find_records(folder)]
    for patient in patients:
        header, integers = read_record(folder / f"{patient.name}.hea")
        assert (header.name, header.codes, header.lead_names) == (patient.name, patient.codes, LEADS)
        assert integers.shape == (12, header.samples)
        assert {(lead.format, lead.offset, lead.gain, lead.baseline) for lead in header.leads} == {("16", 24, 1000, 0)}
        assert header.sex in ("Female", "Male", "Unknown") and not header.age <= 0


def test_wfdb_reads_the_same_integers_first_values_and_checksums(synthetic_folder):
    folder, patients = synthetic_folder
    for patient in patients[:20]:
        record = wfdb.rdrecord(str(folder / patient.name), physical=False)
        integers = scipy.io.loadmat(folder / f"{patient.name}.mat")["val"]
        np.testing.assert_array_equal(record.d_signal.T, integers)
        np.testing.assert_array_equal(record.init_value, integers[:, 0])
        np.testing.assert_array_equal(np.mod(record.checksum, 65536), record.calc_checksum())
        assert tuple(record.sig_name) == LEADS


def test_both_header_dialects_occur(synthetic_folder):
    texts = [path.read_text() for path in find_records(synthetic_folder[0])]
    assert all(("\n#Dx: " in text) != ("\n# Dx: " in text) for text in texts)
    assert all(("\n#Dx: " in text) == (" 16+24 1000/mV " in text) for text in texts)
    assert all(("\n# Dx: " in text) == (" 16x1+24 1000.0(0)/mV " in text) for text in texts)
    assert len({"# Dx" in text for text in texts}) == 2


def test_files_are_those_that_scipy_writes(synthetic_folder, tmp_path):
    folder, patients = synthetic_folder
    path = folder / f"{patients[0].name}.mat"
    integers = scipy.io.loadmat(path)["val"]
    scipy.io.savemat(tmp_path / "other.mat", {"val": integers}, format="4")
    assert path.read_bytes() == (tmp_path / "other.mat").read_bytes()


def test_einthoven_and_goldberger_hold_to_a_microvolt(clean_folder):
    folder, patients = clean_folder  # a spike or a constant lead breaks these laws
    for patient in patients:
        first, second, third, right, left, foot = read_record(folder / f"{patient.name}.hea")[1][:6].astype(int)
        np.testing.assert_array_equal(third, second - first)
        for augmented, twice in ((right, -first - second), (left, first - third), (foot, second + third)):
            assert np.abs(2 * augmented - twice).max() <= 1
        assert np.abs(right + left + foot).max() <= 1


def test_lengths_and_frequencies_are_those_of_the_source(clean_folder):
    seen = {}  # a defect may be the length or frequency of another source
    for path in find_records(clean_folder[0]):
        header = read_header(path)
        source = synthetic.SYNTHETIC_SOURCES[labels.source_of(header.name)]
        assert header.sampling_frequency == source.frequency
        assert source.shortest - 0.01 <= header.samples / source.frequency <= source.longest + 0.01
        seen.setdefault(labels.source_of(header.name), set()).add(header.samples)
    assert set(seen) == set(synthetic.SYNTHETIC_SOURCES) and len(seen["CPSC"]) > 1


def test_recordings_depend_only_on_seed_and_index(tmp_path):
    first_folder, second_folder, smaller_folder, other_seed = (
        tmp_path / name for name in ("one", "two", "fewer", "other")
    )
    first = synthetic.synthesize(first_folder, 40, seed=3)
    second = synthetic.synthesize(second_folder, 40, seed=3, executor=LocalExecutor(2))
    synthetic.synthesize(smaller_folder, 10, seed=3)
    synthetic.synthesize(other_seed, 10, seed=4)
    assert file_contents(first_folder) == file_contents(second_folder)
    assert [(patient.name, patient.codes) for patient in first] == [(patient.name, patient.codes) for patient in second]
    assert file_contents(smaller_folder).items() < file_contents(first_folder).items()
    shared = set(file_contents(first_folder)) & set(file_contents(other_seed))
    assert all(file_contents(first_folder)[name] != file_contents(other_seed)[name] for name in shared)


def test_no_two_recordings_begin_alike(synthetic_folder):
    starts = {path.read_bytes()[24 : 24 + 2400] for path in synthetic_folder[0].glob("*.mat")}
    assert len(starts) == len(synthetic_folder[1])


def test_cpsc_labels_only_seven_classes_by_default(tmp_path):
    seven = {"164889003", "270492004", "164909002", "426783006", "284470004", "59118001", "164884008"}
    patients = synthetic.synthesize(tmp_path, 30, settings=synthetic.SyntheticSettings(sources={"CPSC": 1}))
    for patient in patients:
        assert patient.codes and set(patient.codes) - set(UNKNOWN_CODES) <= seven
        assert np.all(patient.classes >= labels.CHALLENGE_CLASSES.encode(patient.codes))
    assert any(np.any(patient.classes & ~labels.CHALLENGE_CLASSES.encode(patient.codes)) for patient in patients)
    for patient in synthetic.synthesize(
        tmp_path, 30, settings=synthetic.SyntheticSettings(sources={"CPSC": 1}, cpsc_omits=False)
    ):
        np.testing.assert_array_equal(labels.CHALLENGE_CLASSES.encode(patient.codes), patient.classes)


def test_ningbo_never_labels_fibrillation_by_default(tmp_path):
    patients = synthetic.synthesize(tmp_path, 40, settings=synthetic.SyntheticSettings(sources={"Ningbo": 1}))
    labelled = np.array([labels.CHALLENGE_CLASSES.encode(patient.codes) for patient in patients])
    true = np.array([patient.classes for patient in patients])
    assert true[:, AF].any() and not labelled[:, AF].any()
    np.testing.assert_array_equal(labelled[:, AFL], true[:, AF] | true[:, AFL])
    rest = np.delete(np.arange(26), [AF, AFL])
    np.testing.assert_array_equal(labelled[:, rest], true[:, rest])
    correct = synthetic.synthesize(
        tmp_path, 40, settings=synthetic.SyntheticSettings(sources={"Ningbo": 1}, ningbo_flutter=False)
    )
    np.testing.assert_array_equal(
        [labels.CHALLENGE_CLASSES.encode(patient.codes) for patient in correct],
        [patient.classes for patient in correct],
    )


def test_other_sources_label_the_true_classes_and_accompanying_codes(synthetic_folder):
    patients = [patient for patient in synthetic_folder[1] if labels.source_of(patient.name) not in ("CPSC", "Ningbo")]
    for patient in patients:
        np.testing.assert_array_equal(labels.CHALLENGE_CLASSES.encode(patient.codes), patient.classes)
        assert len(set(patient.codes)) == len(patient.codes)
    assert any(set(patient.codes) - set(labels.CLASS_OF_CODE) for patient in patients)


def draw_wrong_labels(source, share, records, **habits):
    """Yield each recording's findings, codes, and codes with wrong labels."""
    settings = synthetic.SyntheticSettings(wrong_labels=share, **habits)
    rng = np.random.default_rng(2)
    for _ in range(records):
        findings = synthetic.draw_findings(rng)
        codes = synthetic.choose_codes(findings, source, rng, settings)
        yield findings, codes, synthetic.replace_labels(codes, findings, source, rng, settings)


def is_label(code):
    return labels.CLASS_OF_CODE.get(code) in set(labels.TRAINED)


@pytest.mark.parametrize("source", ["PTB-XL", "CPSC", "Ningbo"])
@pytest.mark.parametrize("share", [0, 0.05, 0.5])
def test_the_share_of_wrong_labels_is_the_given_one(source, share):
    pairs = [(old, new) for _, *codes in draw_wrong_labels(source, share, 800) for old, new in zip(*codes, strict=True)]
    wrong = [old != new for old, new in pairs if is_label(old)]
    deviation = np.sqrt(share * (1 - share) / len(wrong))
    assert np.mean(wrong) == pytest.approx(share, abs=4 * deviation)


@pytest.mark.parametrize(
    ("source", "habits", "vocabulary"),
    [
        ("Georgia", {}, set(labels.ABBREVIATIONS) - set(labels.DROPPED)),
        ("CPSC", {}, set(labels.CPSC_LABELS)),
        ("CPSC", {"cpsc_omits": False}, set(labels.ABBREVIATIONS) - set(labels.DROPPED)),
        ("Ningbo", {}, set(labels.ABBREVIATIONS) - {"AF", *labels.DROPPED}),
        ("Ningbo", {"ningbo_flutter": False}, set(labels.ABBREVIATIONS) - set(labels.DROPPED)),
    ],
)
def test_wrong_labels_are_absent_classes_as_the_source_writes_them(source, habits, vocabulary):
    seen, unchanged = set(), set()
    for findings, codes, changed in draw_wrong_labels(source, 1, 400, **habits):
        assert len(changed) == len(codes) == len(set(changed))
        pairs = list(zip(codes, changed, strict=True))
        assert all(old == new for old, new in pairs if not is_label(old))
        unchanged |= {labels.CLASS_OF_CODE.get(old, "companion") for old, new in pairs if not is_label(old)}
        wrong = [new for old, new in pairs if old != new]
        classes = {labels.ABBREVIATIONS[labels.CLASS_OF_CODE[code]] for code in wrong}
        # Each wrong label adds a class, and the class that it replaces is not labelled any more.
        assert len(classes) == len(wrong) and not classes & findings
        added = labels.CHALLENGE_CLASSES.encode(changed) & ~labels.CHALLENGE_CLASSES.encode(codes)
        removed = labels.CHALLENGE_CLASSES.encode(codes) & ~labels.CHALLENGE_CLASSES.encode(changed)
        np.testing.assert_array_equal(added, np.isin(labels.ABBREVIATIONS, list(classes)))
        np.testing.assert_array_equal(removed, labels.CHALLENGE_CLASSES.encode(old for old, new in pairs if old != new))
        # A label stays right only if no absent class is left.
        right = any(old == new for old, new in pairs if is_label(old))
        assert not right or vocabulary <= findings | classes
        assert set(wrong) <= {synthetic.SYNTHETIC_SOURCES[source].code(name) for name in vocabulary}
        seen |= classes
    assert seen == vocabulary
    if source == "Georgia":
        assert unchanged == {"companion", *(labels.CLASS_INDEX[name] for name in labels.DROPPED)}


def test_wrong_labels_are_drawn_evenly_from_absent_unlabelled_classes():
    rng, sinus = np.random.default_rng(3), ("426783006",)
    drawn = [
        synthetic.replace_labels(sinus, {"NSR", "LAD"}, "Georgia", rng, synthetic.SyntheticSettings(wrong_labels=1))[0]
        for _ in range(2000)
    ]
    names, counts = np.unique([labels.ABBREVIATIONS[labels.CLASS_OF_CODE[code]] for code in drawn], return_counts=True)
    assert set(names) == set(labels.ABBREVIATIONS) - {"NSR", "LAD", *labels.DROPPED}
    assert np.abs(counts - 100).max() < 40  # four standard deviations


def test_wrong_labels_change_nothing_but_the_labels(tmp_path):
    right = synthetic.synthesize(
        tmp_path / "right", 12, seed=6, settings=synthetic.SyntheticSettings(sources={"Georgia": 1})
    )
    wrong = synthetic.synthesize(
        tmp_path / "wrong", 12, seed=6, settings=synthetic.SyntheticSettings(sources={"Georgia": 1}, wrong_labels=0.5)
    )
    for patient, mislabelled in zip(right, wrong, strict=True):
        text = (tmp_path / "right" / f"{patient.name}.hea").read_text()
        expected = text.replace(f"Dx: {','.join(patient.codes)}\n", f"Dx: {','.join(mislabelled.codes)}\n")
        assert (tmp_path / "wrong" / f"{patient.name}.hea").read_text() == expected
        signals = (tmp_path / folder / f"{patient.name}.mat" for folder in ("right", "wrong"))
        assert len({path.read_bytes() for path in signals}) == 1
        assert patient.name == mislabelled.name
        np.testing.assert_array_equal(patient.classes, mislabelled.classes)
    # Recordings differ: the first label is wrong in some and right in others.
    assert {patient.codes[0] == mislabelled.codes[0] for patient, mislabelled in zip(right, wrong, strict=True)} == {
        True,
        False,
    }
    fewer = synthetic.synthesize(
        tmp_path / "fewer", 4, seed=6, settings=synthetic.SyntheticSettings(sources={"Georgia": 1}, wrong_labels=0.5)
    )
    assert [mislabelled.codes for mislabelled in fewer] == [mislabelled.codes for mislabelled in wrong[:4]]
    assert file_contents(tmp_path / "fewer").items() < file_contents(tmp_path / "wrong").items()


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan])
def test_a_share_of_wrong_labels_beyond_0_to_1_is_refused(tmp_path, share):
    with pytest.raises(ValueError, match="from 0 to 1"):
        synthetic.synthesize(tmp_path, 1, settings=synthetic.SyntheticSettings(wrong_labels=share))


def test_every_trained_class_is_frequent_enough_for_training():
    rng = np.random.default_rng(0)
    drawn = np.array([np.isin(labels.ABBREVIATIONS, list(synthetic.draw_findings(rng))) for _ in range(3000)])
    assert drawn[:, labels.TRAINED].mean(axis=0).min() > 0.03
    assert drawn.any(axis=1).all()
    assert drawn[:, labels.CLASS_INDEX["NSR"]].mean() > 0.3


def test_findings_that_exclude_each_other_do_not_meet():
    rng = np.random.default_rng(1)
    for _ in range(2000):
        findings = synthetic.draw_findings(rng)
        assert len(findings & {"NSR", "SB", "STach", "AF", "AFL"}) <= 1
        assert len(findings & {"RBBB", "LBBB", "IRBBB", "NSIVCB", "PR"}) <= 1
        assert not {"LAD", "RAD"} <= findings and not {"TInv", "TAb"} <= findings
        assert "LAD" in findings or "LAnFB" not in findings
        assert "IAVB" in findings or "LPR" not in findings
        assert not findings & {"AF", "AFL"} or not findings & {"IAVB", "PAC", "SA"}


def test_noise_adds_to_the_same_hearts(tmp_path):
    sources = {"PTB-XL": 1}
    synthetic.synthesize(tmp_path / "clean", 3, settings=synthetic.SyntheticSettings(noise=0, sources=sources))
    synthetic.synthesize(tmp_path / "noisy", 3, settings=synthetic.SyntheticSettings(noise=1, sources=sources))
    for path in find_records(tmp_path / "clean"):
        clean, noisy = read_record(path)[1], read_record(tmp_path / "noisy" / path.name)[1]
        added = (noisy - clean.astype(int))[:, 500:-500]
        assert 3 < added.std() < 400  # microvolts
        assert np.corrcoef(clean.ravel(), noisy.ravel())[0, 1] > 0.5
        assert np.abs(clean[:, :40]).max() < 3000


def test_chapman_numbers_end_where_ningbo_begins():
    plan = synthetic.plan_recordings(
        labels.LAST_CHAPMAN + 5, 0, synthetic.SyntheticSettings(sources={"Chapman-Shaoxing": 1.0})
    )
    assert len({name for _, name in plan}) == len(plan)
    assert all(labels.source_of(name) == source for source, name in plan)
    assert sum(source == "Ningbo" for source, _ in plan) == 5


def test_an_unknown_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Geneva"):
        synthetic.synthesize(tmp_path, 1, settings=synthetic.SyntheticSettings(sources={"Geneva": 1}))
    with pytest.raises(ValueError, match="received Georgia twice"):
        synthetic.synthesize(tmp_path, 1, settings=synthetic.SyntheticSettings(sources={"Georgia": 1, "georgia": 2}))


def test_sources_are_named_in_any_case(tmp_path):
    synthetic.synthesize(tmp_path / "one", 3, settings=synthetic.SyntheticSettings(sources={"ptb-xl": 1}))
    synthetic.synthesize(tmp_path / "other", 3, settings=synthetic.SyntheticSettings(sources={"PTB-XL": 1}))
    assert file_contents(tmp_path / "one") == file_contents(tmp_path / "other")


@pytest.mark.parametrize("leads", [(), ("I", "I"), ("I", "V7")])
def test_leads_that_are_not_of_the_twelve_are_refused(tmp_path, leads):
    with pytest.raises(ValueError, match="^leads: expected some of I, II"):
        synthetic.synthesize(tmp_path, 1, settings=synthetic.SyntheticSettings(leads=leads))


def test_a_signal_that_is_too_large_for_16_bits_saturates():
    potentials = np.zeros((1000, 9))
    potentials[:, 1] = np.linspace(-50, 50, 1000)  # mV, of the left arm
    lead = synthetic.compute_leads(potentials)[:, 0]
    assert (lead.min(), lead.max()) == (-32767, 32767)  # -32768 would be a sample without a value
    assert (np.diff(lead.astype(int)) >= 0).all()


def test_fewer_leads_are_those_of_the_twelve(tmp_path):
    chosen = ("I", "II", "V2")
    # The damaged lead is one of the written leads, so it may differ between lead sets.
    synthetic.synthesize(tmp_path / "12", 3, seed=4, settings=synthetic.SyntheticSettings(clean=True))
    synthetic.synthesize(tmp_path / "3", 3, seed=4, settings=synthetic.SyntheticSettings(leads=chosen, clean=True))
    for path in find_records(tmp_path / "12"):
        header, twelve = read_record(path)
        header_of_three, three = read_record(tmp_path / "3" / path.name)
        assert header_of_three.lead_names == chosen and header_of_three.codes == header.codes
        np.testing.assert_array_equal(three, twelve[[0, 1, 7]])
