"""What the gateway, the export and the stack share of speaking to Triton over gRPC."""
