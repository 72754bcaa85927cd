"""The frame of the benchmarks: what it judges, keeps and prints, without measuring anything."""
