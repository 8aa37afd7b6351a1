"""What the gateway does, whatever the transport."""
