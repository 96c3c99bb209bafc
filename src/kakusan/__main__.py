"""`python -m kakusan` is `kakusan`."""

import sys

from kakusan.cli import main

sys.exit(main())
