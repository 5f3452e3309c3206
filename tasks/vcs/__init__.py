"""All access to git and DVC goes through this package."""
