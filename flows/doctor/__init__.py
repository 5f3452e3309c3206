"""The checks of `strop doctor`."""
