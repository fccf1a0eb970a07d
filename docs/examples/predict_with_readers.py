"""Predict any record with this package's readers and an ONNX file: python predict_with_readers.py model.onnx RECORD."""

import json
import sys

import numpy as np
import onnxruntime

from ecg.data.class_tables import parse_class_table
from ecg.data.preprocessing import encode_demographics, preprocess, split_segments
from ecg.data.records import find_header, read_record
from ecg.data.resampling import Preprocessing
from ecg.models.decision import read_rule

session = onnxruntime.InferenceSession(sys.argv[1])
model = json.loads(session.get_modelmeta().custom_metadata_map["ecg"])
preparation = Preprocessing(**model["preprocessing"] | {"band": tuple(model["preprocessing"]["band"] or ()) or None})
header, recording = read_record(find_header(sys.argv[2]))
rows = []
for segment in split_segments(header, recording):
    signal = preprocess(header, segment, model["leads"], recording, preparation).signal
    inputs = {"signal": signal, "demographics": encode_demographics(header.age, header.sex)}
    given = {node.name: inputs[node.name][np.newaxis] for node in session.get_inputs()}
    rows.append(session.run(["network_probabilities"], given)[0][0])
probabilities, names = np.max(rows, axis=0).mean(axis=0), [diagnosis["abbreviation"] for diagnosis in model["classes"]]
classes = parse_class_table(model["class_table"])
decided = read_rule(model["rule"], classes).decide(probabilities, classes.indices(names))
outputs = dict(zip(classes.abbreviations, decided, strict=True))
for name, probability in zip(names, probabilities, strict=True):
    print(f"{name:6} {probability:.6f} {outputs.get(name, False):d}")
