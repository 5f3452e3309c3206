"""The base model: what it is (`resolve`), its bytes on this disk (`materialise`), and the model itself (`load`)."""
