"""sign: the signatures of a version that was registered before a key was set, or whose signature was lost."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.common import Json, console, enter_project, print_json
from tasks.errors import AuditError


def sign(
    version: Annotated[int, typer.Argument(min=1, help="The version.")],
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte of the version before.")] = False,
    as_json: Json = False,
) -> None:
    """Sign a version afterwards, with the key in `signing.key`: its receipt and ledger entries that have no valid signature.

    The version is audited first; if anything but its signatures differs, nothing is signed.
    """
    config = enter_project()
    from tasks.audit.stage import audit
    from tasks.model_store.signatures import sign_version
    from tasks.signing.signer import open_signer

    open_signer(config.signing)  # before the audit
    links = audit(config, version, deep=deep)
    if broken := [link for link in links if not link.ok and link.name != "signatures"]:
        what = f"v{version} differs from its receipt ({broken[0].name}: {broken[0].detail}), so it is not signed"
        raise AuditError(what, fix=f"See: strop audit {version}")
    results = sign_version(config, version)
    if as_json:
        print_json(
            [{"subject": result.subject.name, "id": result.subject.id, "was": result.state} for result in results]
        )
        return
    for result in results:
        console().print(f"Signed: {result.subject.name} (was: {result.state})", markup=False)
    if not results:
        console().print(f"Version {version} is signed already.")
