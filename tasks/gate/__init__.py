"""Room `gate`: scores and policy → the verdict, with every check, its number and its bound."""
