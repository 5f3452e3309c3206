"""Room `erase`: rows that must go from every byte that Strop keeps, and the record that says so."""
