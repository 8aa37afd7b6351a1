"""Sources on a tile: peaks, centroids, candidates, and what is measured on their stamps."""
