#!/usr/bin/env bash
# demucs is taken for its networks alone, and diffusers for its models of audio: what else they ask for is not needed.
set -euo pipefail
python -m pip install --no-deps demucs==4.1.0 diffusers==0.42.1
