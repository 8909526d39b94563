"""How good priors are, and what makes them so."""
