"""The base model: its identity (`pin`), its files on this disk (`convert`), and the loaded model (`load`)."""
