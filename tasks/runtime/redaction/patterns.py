"""What a secret's name and an address look like: patterns that several modules of this package use."""

from __future__ import annotations

import re

HIDDEN = "…"
SHORTEST_SECRET = 4
"""A shorter value is not masked: it would be part of words."""
SHORTEST_BY_NAME = 8
"""As above, of a variable that only its name makes a secret."""
SHORTEST_LINE = 16
"""As above, of a secret of several lines."""
NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SECRET_KEY = re.compile(
    r"(^|_)(key|secret|token|pass|password|passwd|passphrase|sas|credential|credentials)(_|$)"
    r"|connection_string|password$|auth_string|_pwd$|_pat$"
)
PUBLIC = frozenset({"key_file", "token_file", "keyfile"})
LEADS_TO_A_FILE = re.compile(r"(file|path)$")
SECRET_PARAMETER = re.compile(
    r"passw|pwd|secret|token|credential|signature|api_?key|(^|[_-])(key|sas|sig|pass|auth)([_-]|$)", re.IGNORECASE
)
"""Of an address's query; signed addresses, whose signature opens them, too."""
