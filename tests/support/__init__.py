"""What tests share: toy projects, rows and models, servers, and processes."""
