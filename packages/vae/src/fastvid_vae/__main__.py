"""`python -m fastvid_vae reconstruct in.mp4 out.mp4 --model DIR`."""

import sys

from fastvid_vae.cli import main

sys.exit(main())
