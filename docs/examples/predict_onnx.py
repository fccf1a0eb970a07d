"""Predict a WFDB record with an ONNX file: python predict_onnx.py model.onnx RECORD."""

import json
import sys

import numpy as np
import onnxruntime
import wfdb
from preprocess import preprocess

session = onnxruntime.InferenceSession(sys.argv[1])
model = json.loads(session.get_modelmeta().custom_metadata_map["ecg"])
record = wfdb.rdrecord(sys.argv[2])
millivolts = record.p_signal[:, [record.sig_name.index(lead) for lead in model["leads"]]]
signal = preprocess(millivolts, record.fs, model)[np.newaxis]
[[probabilities]] = session.run(["probabilities"], {"signal": signal})
for diagnosis, probability in zip(model["classes"], probabilities, strict=True):
    threshold = model["rule"]["thresholds"]["|".join(diagnosis["codes"])]
    print(f"{diagnosis['abbreviation']:6} {probability:.6f} {probability >= threshold:d} {diagnosis['name']}")
