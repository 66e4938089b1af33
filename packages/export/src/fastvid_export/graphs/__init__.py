"""Which modules become graphs: for each kind of model a flat module around it, and how its inputs look."""
