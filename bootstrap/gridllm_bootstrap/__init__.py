"""The maintainer: founds a grid, keeps its first peer and relay running."""
