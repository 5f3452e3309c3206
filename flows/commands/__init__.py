"""The commands of `strop`, by what they are for. Each is thin: it asks the rooms, and tells what they answer."""
