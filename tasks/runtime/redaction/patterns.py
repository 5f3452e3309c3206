"""Patterns of secret names and addresses, for several modules of this package."""

from __future__ import annotations

import re

HIDDEN = "…"
SHORTEST_SECRET = 4
"""A shorter value is not masked: it may be part of a word."""
SHORTEST_BY_NAME = 8
"""As above, for a variable that is a secret only by its name."""
SHORTEST_LINE = 16
"""As above, for a line of a multi-line secret."""
NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SECRET_KEY = re.compile(
    r"(^|_)(key|secret|token|pass|password|passwd|passphrase|sas|credential|credentials)(_|$)"
    r"|connection_string|password$|auth_string|_pwd$|_pat$"
)
PUBLIC = frozenset({"key_file", "token_file", "keyfile"})
PATH_KEY = re.compile(r"(file|path)$")
SECRET_PARAMETER = re.compile(
    r"passw|pwd|secret|token|credential|signature|api_?key|(^|[_-])(key|sas|sig|pass|auth)([_-]|$)", re.IGNORECASE
)
"""For the query of an address; signatures of signed addresses too."""
