"""What engines are made by, one a file; none of them is imported before it is used."""
