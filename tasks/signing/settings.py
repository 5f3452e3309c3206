"""Settings of signatures."""

from typing import Literal

from pydantic import field_validator, model_validator

from tasks.runtime.base_settings import Settings

PASSPHRASE = "STROP_SIGNING_PASSPHRASE"
"""The environment variable with the passphrase of the private key."""
Purpose = Literal["promotion", "serving", "audit"]


class SigningSettings(Settings):
    key: str = ""
    """Path of the private key (PEM, an elliptic curve), or a variable that has it: `${STROP_SIGNING_KEY}`. With a key, each new
    receipt and ledger entry is signed ([how to make one](security.md#signatures)). The key must not be in git. Its passphrase is
    read from the variable STROP_SIGNING_PASSPHRASE. Empty: nothing is signed."""
    trusted: str = "keys"
    """Folder with the certificates (`*.pem`) of everyone whose signatures count, with their validity. It is read from the disk of
    the machine that verifies, never from a version's commit. A folder outside of the project, such as `/etc/strop/keys`, cannot be
    changed by a commit."""
    require: tuple[Purpose, ...] = ()
    """What must be signed by a trusted key. `promotion`: the receipt and verdict of a version before it enters service. `serving`:
    also the entry by which the champion serves, before `strop generate` and `strop chat` load it. `audit`: an unsigned receipt or
    entry of a version is a difference. An invalid signature is always one."""

    @field_validator("key")
    @classmethod
    def is_a_path(cls, key: str) -> str:
        if "-----BEGIN" in key or "\n" in key:
            raise ValueError("should be the path of the private key, not the key: params.yaml is in git")
        return key

    @field_validator("trusted")
    @classmethod
    def names_a_folder(cls, trusted: str) -> str:
        if not trusted.strip():
            raise ValueError("should be the folder with the trusted certificates, such as `keys`")
        return trusted

    @model_validator(mode="after")
    def requires_only_what_is_signed(self) -> "SigningSettings":
        if self.require and not self.key:
            raise ValueError("`require` needs `key`: without a key, new versions would not be signed")
        return self
