"""``python -m cycnn`` is the command ``cycnn``."""

from .cli import main

raise SystemExit(main())
