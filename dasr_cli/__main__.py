"""Entry of `python -m dasr_cli`, the same as the command `dasr`."""

import sys

from dasr_cli.main import main

sys.exit(main())
