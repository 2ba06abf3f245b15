#!/usr/bin/env bash
# musicnn is taken for its weights alone; the dependencies that it asks for are obsolete.
set -euo pipefail
python -m pip install --no-deps musicnn==0.1.0
