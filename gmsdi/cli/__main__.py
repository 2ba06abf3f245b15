"""`python -m gmsdi.cli`."""

import sys

from gmsdi.cli import main

sys.exit(main())
