"""Access to models outside this process: OpenAI-compatible endpoints."""
