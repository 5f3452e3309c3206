"""Settings of room `promote`."""

from tasks.runtime.base_settings import Settings


class PromoteSettings(Settings):
    automatic: bool = True
    """Promote a candidate that passed the gate. Otherwise it waits as `challenger` for `strop promote VERSION`."""
