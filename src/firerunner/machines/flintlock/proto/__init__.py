"""What `make proto` generates out of the .proto files beside it."""
