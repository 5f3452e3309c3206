"""Where records are collected from: files, object stores, the Hugging Face hub, databases, traces."""
