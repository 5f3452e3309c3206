"""What a person reads after a run: the summary on the terminal and as Markdown, the status of the project."""
