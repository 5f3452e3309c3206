"""Room `reproduce`: makes a version again from its commit, in a clone, and compares every output with the recorded one."""
