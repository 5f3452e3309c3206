"""Runs programs that models wrote, with their tests, where they reach neither the network nor files."""
