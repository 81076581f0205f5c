"""``python -m comarl``."""

import sys

from comarl.cli import main

sys.exit(main())
