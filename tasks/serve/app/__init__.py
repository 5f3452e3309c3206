"""The HTTP application: OpenAI's API, predictions of task families, feedback, health and metrics."""
