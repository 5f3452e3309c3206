"""The report of a run: one HTML file for a browser, without any request to a network (docs/reports.md)."""
