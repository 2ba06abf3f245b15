#!/usr/bin/env bash
# demucs is taken for its networks alone, and what else it asks for is not needed.
set -euo pipefail
python -m pip install --no-deps demucs==4.1.0
