"""What maintainers say about a grid that is founded, from a draft to the grid: amendments, revocations, grants."""
