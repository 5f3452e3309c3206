"""`strop explain`: which parts of an input the output of a version depends on."""
