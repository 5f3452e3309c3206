"""What any program needs, whatever it is about: files, processes, progress, bounded parsers, messages without secrets."""
