"""What founds a grid: the signed charter, its pinned copy on disk, and fetching it from a peer."""
