"""Settings of room `promote`."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.runtime.base_settings import Settings

_APPROVAL = {True: "none", False: "required"}
"""The values of `automatic`, of earlier releases."""


class PromoteSettings(Settings):
    approval: Literal["none", "required", "canary"] = "none"
    """Whether people decide about a candidate that passed the gate. `none`: the run promotes it. `required`: the run ends as
    `waiting`, until `strop approve VERSION --why TEXT` promotes the candidate or `strop reject VERSION --why TEXT` rejects it.
    `canary`: it answers a share of the users, until their ratings decide (`serve.canary`); so does one whose verdict is
    inconclusive, if `gate.canary_share` keeps a level for it. A first version is promoted at once."""
    approval_days: Annotated[int, Field(ge=1, le=3650)] = 7
    """With `approval: required`: days after its verdict in which a candidate can be approved. Later it must be judged again
    (`strop run --rejudge`)."""

    @property
    def expires_after_days(self) -> int | None:
        """None: a candidate does not expire, as nobody has to approve it."""
        return self.approval_days if self.approval == "required" else None

    @model_validator(mode="before")
    @classmethod
    def _read_automatic(cls, settings: Any) -> Any:
        """A params.yaml of an earlier release keeps its meaning."""
        if isinstance(settings, dict) and "approval" not in settings and isinstance(settings.get("automatic"), bool):
            others = {name: value for name, value in settings.items() if name != "automatic"}
            return {**others, "approval": _APPROVAL[settings["automatic"]]}
        return settings
