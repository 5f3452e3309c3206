"""The only package that uses MLflow: runs, versions and aliases, in a file below mlflow/ or on a tracking server.

    from tasks.tracking.registry import open_registry

    registry = open_registry(config)
    number = registry.create_version(model_uri, run_id, {"strop.receipt": digest})
    registry.set_alias("challenger", number)

MLflow has no compare-and-swap and no history: the ledger decides which model serves, and the aliases mirror it.
"""
