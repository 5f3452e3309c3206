"""A row as a conversation, and a conversation as the text of a chat template."""
