"""The curated rows and the rendered ones, as the rooms read them."""
