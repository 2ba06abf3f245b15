#!/usr/bin/env bash
# museval is taken for its metrics alone; what else it asks for reads datasets and needs ffmpeg.
set -euo pipefail
python -m pip install --no-deps museval==0.4.1
