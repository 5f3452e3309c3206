"""Text generation: engines, and OpenAI-compatible endpoints (decision 23)."""
