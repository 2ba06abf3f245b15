#!/usr/bin/env bash
# laion-clap is taken for its CLAP alone. It asks for NumPy 1 and for what its training, its image networks and its loggers
# need; it runs with NumPy 2, and without these. The second line is what torchlibrosa takes its mel filters from.
set -euo pipefail
python -m pip install --no-deps laion-clap==1.1.7 torchlibrosa==0.1.0
python -m pip install --no-deps cloudpickle==3.1.3 decorator==5.3.1 joblib==1.6.0 lazy-loader==0.6 librosa==0.11.0 llvmlite==0.50.0 msgpack==1.2.4 numba==0.68.1 pooch==1.9.0
