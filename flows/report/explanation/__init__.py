"""An explanation as a page, a picture and a table."""
