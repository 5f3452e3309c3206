"""The policy for personal data and secrets: the setting `curate.pii`."""

from typing import Literal

from tasks.runtime.base_settings import Settings

Policy = Literal["refuse", "mask", "allow"]


class PiiSettings(Settings):
    """The policy for personal data and secrets: `refuse` the row, `mask` them with a typed placeholder, or `allow` them."""

    email: Policy = "mask"
    """E-mail addresses."""
    phone: Policy = "mask"
    """Telephone numbers."""
    card: Policy = "mask"
    """Payment card numbers, by their check digit."""
    iban: Policy = "mask"
    """Bank account numbers, by their check digits."""
    ip: Policy = "allow"
    """IP addresses."""
    national_id: Policy = "mask"
    """Numbers of identity cards and social security."""
    secret: Policy = "mask"
    """API keys, tokens and private keys."""
