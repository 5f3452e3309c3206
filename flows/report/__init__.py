"""Reports for the user: the summary on the terminal and as Markdown, the status of the project."""
