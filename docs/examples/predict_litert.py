"""Predict a WFDB record with a LiteRT file: python predict_litert.py model.tflite RECORD."""

import json
import sys
import zipfile

import numpy as np
import wfdb
from ai_edge_litert.interpreter import Interpreter
from preprocess import preprocess

model = json.loads(zipfile.ZipFile(sys.argv[1]).read("ecg.json"))
record = wfdb.rdrecord(sys.argv[2])
millivolts = record.p_signal[:, [record.sig_name.index(lead) for lead in model["leads"]]]
predict = Interpreter(sys.argv[1]).get_signature_runner()
probabilities = predict(signal=preprocess(millivolts, record.fs, model)[np.newaxis])["probabilities"][0]
for diagnosis, probability in zip(model["classes"], probabilities, strict=True):
    threshold = model["rule"]["thresholds"]["|".join(diagnosis["codes"])]
    print(f"{diagnosis['abbreviation']:6} {probability:.6f} {probability >= threshold:d} {diagnosis['name']}")
