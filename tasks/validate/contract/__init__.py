"""What a good row of each family is."""
