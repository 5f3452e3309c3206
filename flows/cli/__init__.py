"""The command `strop`: a small module a group of commands."""
