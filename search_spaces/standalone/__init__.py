"""What leaves the house: a script that lies beside an exported network and needs nothing of this package."""
