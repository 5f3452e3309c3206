"""The rooms of the pipeline: one folder a room, each entered by `stage.run(config)`. Run one: `python -m tasks curate`."""
