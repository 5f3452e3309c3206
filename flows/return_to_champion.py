"""What a run sets right before and after its stages: the registry's alias, and the champion's own round.

When data and parameters are again what the champion was made of, such as after `strop data exclude`.

Its weights then came from DVC's run cache, and are those that serve. To judge a model against itself means nothing: the
round of its own making is put back instead, so that its predictions and its verdict come from the cache as well.
"""

from __future__ import annotations

import sys

from flows.outcome import Outcome
from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.config import PipelineConfig
from tasks.errors import RegistryError
from tasks.model_store.ledger import champion_of, is_mirrored, read_ledger
from tasks.model_store.serving import read_serving
from tasks.model_store.versions import commit_of
from tasks.runtime.files import replacing
from tasks.vcs import git


def follow_ledger(config: PipelineConfig) -> None:
    """Sets the registry's alias `champion` back to what the ledger says, and reports it. A look costs milliseconds.

    Raises:
        LedgerBroken: the ledger does not follow: a run would judge against, and continue, what nobody promoted.
    """
    serving = read_serving(config)
    if serving.alias_matches is not False:
        return
    if serving.champion is None:
        print(f"registry: {serving.problem}", file=sys.stderr, flush=True)
        return
    from tasks.promote.stage import reconcile

    try:
        version = reconcile(config)
    except RegistryError as error:  # the run itself may still do its work
        print(f"registry: {error}", file=sys.stderr, flush=True)
        return
    was = "at a version that was deleted" if serving.registry.is_dangling else f"at v{serving.registry.alias}"
    state = "was gone" if serving.registry.alias is None and not serving.registry.is_dangling else f"pointed {was}"
    print(f"registry: the alias `champion` {state}; it is set back to v{version}", flush=True)


def return_to_champion(config: PipelineConfig) -> Outcome | None:
    """Puts the champion's own round back if the candidate's weights are the champion's; None if they are not."""
    model = config.register_.model_name
    champion = champion_of(read_ledger(model))
    if champion is None or weights_digest(paths.MODEL) != champion.weights_digest:
        return None
    commit = commit_of(model, champion.version)
    round_ = git.read_at(commit, paths.ROUND) if commit else None
    if round_ is not None:
        with replacing(paths.ROUND) as temporary:
            temporary.write_bytes(round_)
    if not is_mirrored(model, champion.version):  # its promotion was killed before the alias moved
        from tasks.promote.stage import reconcile

        reconcile(config)
    return Outcome("back_at_champion", champion.version)
