"""The door to MLflow: runs, versions and aliases, in a file under mlflow/ or on the server that a setting names.

    from tasks.tracking.registry import open_registry

    registry = open_registry(config)
    number = registry.create_version(model_uri, run_id, {"strop.receipt": digest})
    registry.set_alias("challenger", number)

MLflow has no compare-and-swap and no history: which model serves is said by the ledger, and mirrored here.
"""
