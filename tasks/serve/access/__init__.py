"""Who may send requests, and how many: keys, limits of requests, and deadlines for slow clients."""
