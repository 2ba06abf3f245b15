#!/usr/bin/env bash
# frechet-audio-distance is taken for VGGish, CLAP and its distance. It asks for NumPy 1, and for torchaudio, torchvision
# and encodec, whose wheels want one build of PyTorch each and which nothing here uses.
set -euo pipefail
python -m pip install --no-deps frechet-audio-distance==0.3.4 laion-clap==1.1.7 resampy==0.4.3 torchlibrosa==0.1.0
python -m pip install --no-deps cloudpickle==3.1.3 decorator==5.3.1 joblib==1.6.0 lazy-loader==0.6 librosa==0.11.0 llvmlite==0.50.0 msgpack==1.2.4 numba==0.68.1 pooch==1.9.0
