"""The shadow: the challenger answers a share of the champion's requests, too. Nobody sees its answers, which are recorded."""
