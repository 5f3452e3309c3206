"""The former path of `read_rendered`, for scripts outside the project."""

from tasks.dataset.rendered import read_rendered

__all__ = ["read_rendered"]
