"""Serves judged versions over HTTP, as they were judged, and collects what people say of the answers."""
