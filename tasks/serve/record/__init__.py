"""The recorder: a process of its own that masks records and writes them, and the client by which a gateway feeds it."""
