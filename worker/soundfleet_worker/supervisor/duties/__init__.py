"""What a worker does in the background: one duty, one small file, the same silhouette."""
