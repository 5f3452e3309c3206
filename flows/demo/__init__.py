"""The demo: a project of its own with real data, one run or three rounds."""
