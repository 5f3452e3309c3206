"""Room `gate`: scores × policy → the verdict: every check, its number, its bound, passed or not."""
