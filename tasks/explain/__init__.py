"""Which parts of an input an output depends on: integrated gradients of a head, occlusion of a generated answer."""
