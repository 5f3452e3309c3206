"""Records of all shapes, converted to rows."""
