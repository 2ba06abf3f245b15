"""The tables of the study: Tables 1 and 2 of the paper, and those on what is generated."""
