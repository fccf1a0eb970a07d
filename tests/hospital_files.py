"""Files as hospitals have them, by writers that know nothing of the readers."""

import base64
from xml.sax.saxutils import escape

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
MILLIVOLTS = np.cumsum(np.random.default_rng(5).normal(0, 0.02, (2500, 12)), axis=0).round(3)  # (T, 12)
FREQUENCY = 500
STATEMENTS = ("Sinus rhythm with 1st degree AV block", "Possible left atrial enlargement")
NAMES = ("Musterfrau", "Erika", "PAT-99817")  # what must not appear anywhere


def write_dicom(path):
    """A 12-lead ECG object, by pydicom."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Modality, file.PatientName, file.PatientID = "ECG", f"{NAMES[0]}^{NAMES[1]}", NAMES[2]
    file.PatientSex, file.PatientAge, file.AcquisitionDateTime = "F", "063Y", "20240102030405"
    wave = Dataset()
    wave.MultiplexGroupTimeOffset, wave.WaveformOriginality = 0, "ORIGINAL"
    wave.NumberOfWaveformChannels, wave.NumberOfWaveformSamples = 12, len(MILLIVOLTS)
    wave.SamplingFrequency = FREQUENCY
    channels = []
    for lead in LEADS:
        channel, source, unit = Dataset(), Dataset(), Dataset()
        source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = "x", "MDC", f"Lead {lead}"
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
        channel.ChannelSourceSequence = Sequence([source])
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = 2.5, 1.0
        channel.ChannelSensitivityUnitsSequence, channel.ChannelBaseline = Sequence([unit]), 0.0
        channel.WaveformBitsStored = 16
        channels.append(channel)
    wave.ChannelDefinitionSequence = Sequence(channels)
    wave.WaveformBitsAllocated, wave.WaveformSampleInterpretation = 16, "SS"
    wave.WaveformData = np.rint(MILLIVOLTS * 1000 / 2.5).astype("<i2").tobytes()
    file.WaveformSequence = Sequence([wave])
    notes = []
    for statement in STATEMENTS:
        note = Dataset()
        note.AnnotationGroupNumber, note.UnformattedTextValue = 0, statement
        notes.append(note)
    file.WaveformAnnotationSequence = Sequence(notes)
    file.save_as(path, enforce_file_format=True)
    return 2.5e-3


def write_edf(path):
    """An EDF+ file, by pyedflib, with a channel of breathing at another frequency."""
    import pyedflib

    with pyedflib.EdfWriter(str(path), 13, file_type=pyedflib.FILETYPE_EDFPLUS) as file:
        file.setPatientName(f"{NAMES[1]}_{NAMES[0]}")
        file.setPatientCode(NAMES[2])
        file.setSex(0)
        for channel, lead in enumerate((*LEADS, "Resp")):
            is_lead = lead != "Resp"
            limit = 10.0 if is_lead else 100.0
            file.setSignalHeader(channel, {
                "label": lead, "dimension": "mV" if is_lead else "%", "sample_frequency": FREQUENCY if is_lead else 25,
                "physical_max": limit, "physical_min": -limit, "digital_max": 32767, "digital_min": -32768,
                "transducer": "", "prefilter": "",
            })  # fmt: skip
        file.writeSamples([*(np.ascontiguousarray(row) for row in MILLIVOLTS.T), np.zeros(125)])
    return 20 / 65535


def muse_xml():
    """A resting ECG of GE MUSE with its eight stored leads, by the published schema."""
    columns = {lead: np.rint(MILLIVOLTS[:, LEADS.index(lead)] * 1000 / 4.88).astype("<i2") for lead in stored_leads()}
    waves = "".join(
        f"<LeadData><LeadByteCountTotal>{2 * len(values)}</LeadByteCountTotal><LeadTimeOffset>0</LeadTimeOffset>"
        f"<LeadSampleCountTotal>{len(values)}</LeadSampleCountTotal>"
        f"<LeadAmplitudeUnitsPerBit>4.88</LeadAmplitudeUnitsPerBit><LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>"
        f"<LeadSampleSize>2</LeadSampleSize><LeadID>{lead}</LeadID>"
        f"<WaveFormData>{base64.b64encode(values.tobytes()).decode()}</WaveFormData></LeadData>"
        for lead, values in columns.items()
    )
    diagnoses = "".join(f"<DiagnosisStatement><StmtFlag>ENDSLINE</StmtFlag><StmtText>{escape(text)}</StmtText>"
                        "</DiagnosisStatement>" for text in STATEMENTS)  # fmt: skip
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?><RestingECG><MuseInfo><MuseVersion>9</MuseVersion></MuseInfo>'
        f"<PatientDemographics><PatientID>{NAMES[2]}</PatientID><PatientAge>63</PatientAge><AgeUnits>YEARS</AgeUnits>"
        f"<Gender>FEMALE</Gender><PatientLastName>{NAMES[0]}</PatientLastName>"
        f"<PatientFirstName>{NAMES[1]}</PatientFirstName></PatientDemographics>"
        "<TestDemographics><DataType>RESTING</DataType></TestDemographics>"
        f"<Diagnosis>{diagnoses}</Diagnosis>"
        "<Waveform><WaveformType>Rhythm</WaveformType><SampleBase>500</SampleBase><SampleExponent>0</SampleExponent>"
        f"{waves}</Waveform></RestingECG>"
    )


def stored_leads():
    return ("I", "II", *LEADS[6:])


def write_muse(path):
    path.write_text(muse_xml(), encoding="latin-1")
    return 4.88e-3


def aecg_xml():
    """An annotated ECG of HL7 version 3, by its implementation guide."""
    names = {lead: f"MDC_ECG_LEAD_{lead if lead in ('aVR', 'aVL', 'aVF') else lead}" for lead in LEADS}
    sequences = "".join(
        f'<component><sequence><code code="{names[lead]}" codeSystem="2.16.840.1.113883.6.24"/>'
        f'<value xsi:type="SLIST_PQ"><origin value="0" unit="uV"/><scale value="5" unit="uV"/>'
        f"<digits>{' '.join(map(str, np.rint(MILLIVOLTS[:, column] * 1000 / 5).astype(int)))}</digits></value>"
        "</sequence></component>"
        for column, lead in enumerate(LEADS)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><AnnotatedECG xmlns="urn:hl7-org:v3" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><id root="1.2.3"/>'
        '<effectiveTime><low value="20240102030405"/></effectiveTime>'
        "<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject>"
        f'<id extension="{NAMES[2]}"/><subjectDemographicPerson><name><family>{NAMES[0]}</family>'
        f'<given>{NAMES[1]}</given></name><administrativeGenderCode code="F"/></subjectDemographicPerson>'
        "</trialSubject></subject></subjectAssignment></componentOf></timepointEvent></componentOf>"
        '<component><series><code code="RHYTHM" codeSystem="2.16.840.1.113883.5.4"/><component><sequenceSet>'
        '<component><sequence><code code="TIME_RELATIVE" codeSystem="2.16.840.1.113883.5.4"/>'
        '<value xsi:type="GLIST_PQ"><head value="0" unit="s"/><increment value="0.002" unit="s"/></value>'
        f"</sequence></component>{sequences}</sequenceSet></component></series></component></AnnotatedECG>"
    )


def write_aecg(path):
    path.write_text(aecg_xml(), encoding="utf-8")
    return 5e-3


WRITERS = {"DICOM": (write_dicom, ".dcm", LEADS), "EDF": (write_edf, ".edf", LEADS),
           "GE MUSE XML": (write_muse, ".xml", stored_leads()), "HL7 aECG": (write_aecg, ".xml", LEADS)}  # fmt: skip
