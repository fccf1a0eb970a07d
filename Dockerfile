FROM python:3.11-slim-bookworm

# The Challenge's three lines; the four data folders are mounted below /physionet.
RUN mkdir /physionet
COPY ./ /physionet
WORKDIR /physionet

# CUDA=0 leaves out the libraries for the GPU (some gigabytes); with them the same image runs with and without one.
ARG CUDA=1
RUN if [ "$CUDA" = 1 ]; then lock=cuda; else lock=cpu; fi \
    && pip install --no-cache-dir --require-hashes -r locks/$lock.txt
