"""The demo: a project of its own on real data, one run or three rounds."""
