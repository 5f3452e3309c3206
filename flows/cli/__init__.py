"""The command `strop`: one module per group of commands."""
