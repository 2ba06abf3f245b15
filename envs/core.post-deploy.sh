#!/usr/bin/env bash
# musicnn is taken for its weights alone and demucs for its networks; what else they ask for is obsolete or not needed.
set -euo pipefail
python -m pip install --no-deps musicnn==0.1.0 demucs==4.1.0
